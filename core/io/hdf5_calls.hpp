// What the files that call HDF5 share: what a call returned, checked, and the ways to what is in a
// file. For hdf5.cpp and hdf5_columns.cpp alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/io/hdf5.hpp"
#include "kernels/base/error.hpp"

namespace millrace::hdf5 {

// The name of the file that an object (hid_t) lies in.
std::string file_name(std::int64_t object);

// Throws the UserError of a call that failed on such an object: "cannot write o.h5: No space left
// on device".
[[noreturn]] void fail(std::int64_t object, std::string_view action);

// Checks what an HDF5 function returned about an object of the file in question.
template <typename Result>
Result check(Result result, std::int64_t object, std::string_view action) {
  if (result < 0) fail(object, action);
  return result;
}

Object space(std::int64_t id);
// Variable-length UTF-8.
Object text_type();

// A file from elsewhere must not name other files of whoever reads it: as a link, or as the place
// of a dataset's bytes.
void require_own_link(const Object& parent, const std::string& name);

}  // namespace millrace::hdf5
