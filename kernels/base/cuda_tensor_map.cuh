// Descriptions of tensors for the tensor copy engine.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <span>

#include "kernels/base/dtype.hpp"

namespace millrace::cuda {

// The driver's encoder, found at run time so that the program starts where there is no driver;
// nullptr where the driver has none.
decltype(&cuTensorMapEncodeTiled) tensor_map_encoder();

// A tensor of bf16, f16 or fp8 of up to five sizes, the innermost first, in boxes; `stride_bytes`
// are of all but the innermost. Rows of a box have 128 or 64 bytes, swizzled to that width, and are
// zeros beyond the tensor's end.
CUtensorMap map_of_tensor(const void* data, DType dtype, std::span<const std::uint64_t> sizes,
                          std::span<const std::uint64_t> stride_bytes,
                          std::span<const std::uint32_t> box);

// Rows of a matrix [rows, columns] of bf16, f16 or fp8, `stride` elements apart, in boxes of
// box_rows times 128 bytes with the swizzle of cuda_wgmma.cuh. Elements outside the matrix read as
// zero.
CUtensorMap map_of_rows(const void* data, DType dtype, std::int64_t rows, std::int64_t columns,
                        std::int64_t stride, int box_rows);

}  // namespace millrace::cuda
