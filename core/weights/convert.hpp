// Elements as a checkpoint stores them to the floats of a tensor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/weights/storage_type.hpp"
#include "kernels/base/dtype.hpp"

namespace millrace {

// `elements` (whole blocks) at `from` as `dtype` (f32, f16, bf16 or fp8) at `to`, rounded to
// nearest even.
void convert_elements(StorageType type, const std::byte* from, std::int64_t elements, DType dtype,
                      void* to);

}  // namespace millrace
