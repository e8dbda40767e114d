// Rows of floats to fp8 with scales. Norms and activations do the same in the pass that makes the
// rows; this is for rows that come from elsewhere: attention's output, and weights.
#pragma once

#include "kernels/base/stream.hpp"
#include "kernels/linear_input.hpp"

namespace millrace {

// scale = out.fixed_scale, or max |x| / 448 over the row (rows) or over 128 of its columns
// (blocks); out.values = x / scale, rounded to nearest even, saturated at 448; out.scales = scale.
//   x [m, k] f32, bf16 or f16; rows may be strided, in `out` too
// CPU and CUDA give the same bits. Format: arXiv:2209.05433.
void quantize(const LinearInput& out, const TensorView& x, Stream stream);

namespace cpu {
decltype(millrace::quantize) quantize;
constexpr std::int64_t quantize_nanoseconds = 2;  // an element, on one thread, roughly
// One row of f32, as quantize() does it: row `row` of `out`.
void quantize_row(const LinearInput& out, std::int64_t row, const float* x);
// The values of `x` [m, k] as f32, row after row; reverses quantize().
void dequantize(const LinearInput& x, float* out);
}  // namespace cpu
namespace cuda {
decltype(millrace::quantize) quantize;
}  // namespace cuda

}  // namespace millrace
