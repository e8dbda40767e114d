#include "core/io/hdf5.hpp"

#include <hdf5.h>

#include <array>
#include <type_traits>

#include "core/io/hdf5_calls.hpp"
#include "kernels/base/error.hpp"

namespace millrace::hdf5 {
namespace {

static_assert(std::is_same_v<hid_t, std::int64_t>);

// The innermost reason on HDF5's error stack, shortened to the system's own words where it has
// them.
std::string reason() {
  std::string text = "HDF5 error";
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned depth, const H5E_error2_t* error, void* data) -> herr_t {
        if (depth == 0 && error->desc != nullptr) {
          *static_cast<std::string*>(data) = error->desc;
        }
        return 0;
      },
      &text);
  constexpr std::string_view mark = "error message = '";
  if (const auto at = text.find(mark); at != std::string::npos) {
    text = text.substr(at + mark.size());
    text = text.substr(0, text.find('\''));
  }
  return text;
}

// Why the first write that failed did; empty while none has. See Object.
std::string write_failure;

// Before any other call: errors are ours to report, and at exit nothing is left to write.
void start_library() {
  static const bool started = [] {
    H5dont_atexit();
    // A file that names a filter must not make the library load one.
    H5PLset_loading_state(0);
    return H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  }();
  static_cast<void>(started);
}

Object file_access_properties() {
  start_library();
  Object properties(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_libver_bounds(properties.id(), H5F_LIBVER_V18, H5F_LIBVER_LATEST);
  return properties;
}

// One that holds a single value: H5Aread() writes as many as there are.
Object open_attribute(const Object& object, const std::string& name) {
  Object attribute(check(H5Aopen(object.id(), name.c_str(), H5P_DEFAULT), object.id(), "read"),
                   H5Aclose);
  const Object values = space(H5Aget_space(attribute.id()));
  if (H5Sget_simple_extent_npoints(values.id()) != 1) {
    throw UserError("{} is damaged: the attribute {} is no single value", file_name(object.id()),
                    name);
  }
  return attribute;
}

void write_scalar(const Object& object, const std::string& name, hid_t type, hid_t memory_type,
                  const void* value) {
  const Object scalar = space(H5Screate(H5S_SCALAR));
  const Object attribute(
      check(H5Acreate2(object.id(), name.c_str(), type, scalar.id(), H5P_DEFAULT, H5P_DEFAULT),
            object.id(), "write"),
      H5Aclose);
  check(H5Awrite(attribute.id(), memory_type, value), object.id(), "write");
}

// The text of an open attribute of variable or fixed length.
std::string text_of(const Object& attribute) {
  const Object type = text_type();
  char* text = nullptr;
  check(H5Aread(attribute.id(), type.id(), static_cast<void*>(&text)), attribute.id(), "read");
  std::string value = text == nullptr ? "" : text;
  H5free_memory(text);
  return value;
}

}  // namespace

std::string file_name(std::int64_t object) {
  std::array<char, 4096> name{};
  if (H5Fget_name(object, name.data(), name.size()) <= 0) {
    return "the result file";
  }
  return name.data();
}

void fail(std::int64_t object, std::string_view action) {
  const std::string why = write_failure.empty() ? reason() : write_failure;
  if (action == "write") {
    write_failure = why;
  }
  throw UserError("cannot {} {}: {}", action, file_name(object), why);
}

Object space(std::int64_t id) { return {id, H5Sclose}; }

Object text_type() {
  Object type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.id(), H5T_VARIABLE);
  H5Tset_cset(type.id(), H5T_CSET_UTF8);
  return type;
}

void require_own_link(const Object& parent, const std::string& name) {
  H5L_info_t link;
  check(H5Lget_info(parent.id(), name.c_str(), &link, H5P_DEFAULT), parent.id(), "read");
  if (link.type != H5L_TYPE_HARD) {
    throw UserError("{}: {} is a link to another place, which is not followed",
                    file_name(parent.id()), name);
  }
}

void Object::close() {
  if (is_open() && write_failure.empty() && closer_(id_) < 0) {
    write_failure = reason();
  }
  id_ = -1;
}

Object create_file(const std::filesystem::path& path) {
  const Object access = file_access_properties();
  const hid_t id = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.id());
  if (id < 0) {
    throw UserError("cannot create {}: {}", path.string(), reason());
  }
  return {id, H5Fclose};
}

Object open_file(const std::filesystem::path& path) {
  const Object access = file_access_properties();
  const hid_t id = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id());
  if (id < 0) {
    throw UserError("cannot open {}: {}", path.string(), reason());
  }
  return {id, H5Fclose};
}

void close_file(Object& file) {
  // Columns that were closed before wrote their last chunks then. Once flushed, closing the file
  // has nothing left to write.
  check(!write_failure.empty() ? -1 : H5Fflush(file.id(), H5F_SCOPE_GLOBAL), file.id(), "write");
  file.close();
}

Object create_group(const Object& parent, const std::string& name) {
  // Attributes keep the order in which they are written, and may be large.
  const Object properties(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
  H5Pset_attr_creation_order(properties.id(), H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  return {check(H5Gcreate2(parent.id(), name.c_str(), H5P_DEFAULT, properties.id(), H5P_DEFAULT),
                parent.id(), "write"),
          H5Gclose};
}

Object open_group(const Object& parent, const std::string& name) {
  require_own_link(parent, name);
  return {check(H5Gopen2(parent.id(), name.c_str(), H5P_DEFAULT), parent.id(), "read"), H5Gclose};
}

bool exists(const Object& parent, const std::string& name) {
  return H5Lexists(parent.id(), name.c_str(), H5P_DEFAULT) > 0;
}

bool has_attribute(const Object& object, const std::string& name) {
  return H5Aexists(object.id(), name.c_str()) > 0;
}

void write_attribute(const Object& object, const std::string& name, const std::string& value) {
  const Object type = text_type();
  const char* text = value.c_str();
  write_scalar(object, name, type.id(), type.id(), static_cast<const void*>(&text));
}

void write_attribute(const Object& object, const std::string& name, std::int64_t value) {
  write_scalar(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

void write_attribute(const Object& object, const std::string& name, double value) {
  write_scalar(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}

std::string read_text_attribute(const Object& object, const std::string& name) {
  return text_of(open_attribute(object, name));
}

std::int64_t read_integer_attribute(const Object& object, const std::string& name) {
  const Object attribute = open_attribute(object, name);
  std::int64_t value = 0;
  check(H5Aread(attribute.id(), H5T_NATIVE_INT64, &value), object.id(), "read");
  return value;
}

double read_real_attribute(const Object& object, const std::string& name) {
  const Object attribute = open_attribute(object, name);
  double value = 0;
  check(H5Aread(attribute.id(), H5T_NATIVE_DOUBLE, &value), object.id(), "read");
  return value;
}

std::vector<std::pair<std::string, std::string>> read_text_attributes(const Object& object) {
  std::vector<std::string> names;
  check(H5Aiterate2(
            object.id(), H5_INDEX_CRT_ORDER, H5_ITER_INC, nullptr,
            [](hid_t, const char* name, const H5A_info_t*, void* data) -> herr_t {
              static_cast<std::vector<std::string>*>(data)->emplace_back(name);
              return 0;
            },
            &names),
        object.id(), "read");
  std::vector<std::pair<std::string, std::string>> attributes;
  for (const std::string& name : names) {
    const Object attribute = open_attribute(object, name);
    const Object type(H5Aget_type(attribute.id()), H5Tclose);
    if (H5Tget_class(type.id()) == H5T_STRING) {
      attributes.emplace_back(name, text_of(attribute));
    }
  }
  return attributes;
}

}  // namespace millrace::hdf5
