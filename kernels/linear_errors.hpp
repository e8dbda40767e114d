// UserErrors of products, thrown from .cu files, which cannot include error.hpp (kernels/base/
// backend.hpp says why).
#pragma once

#include <cstdint>

namespace millrace {

// `capability`: 10 * major + minor of a GPU whose library has no fp8 product with scales.
[[noreturn]] void throw_no_fp8(int capability);

// An fp8 weight [n, k] where k must be a multiple of 16 and n of 8.
[[noreturn]] void throw_fp8_shape(std::int64_t n, std::int64_t k);

}  // namespace millrace
