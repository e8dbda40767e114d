// Products with few rows of x on Hopper, where the time is that of reading the weight once.
//
// The weight streams through shared memory from before the op in front has ended (it is constant;
// only x has to be waited for), and the kernel lets the op behind it get ready at once. So
// launches, ramps and the small ops between products hide behind weights.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.hpp"
#include "kernels/base/stream.hpp"

namespace millrace::cuda {

// out [m, n] = x [m, k] * w [n, k]^T (+ bias [n]); w's rows are contiguous, x's and out's may be
// strided (in elements). dtype: bf16 or f16, of x, w and bias; out is of it or f32. Or fp8_e4m3, of
// x and w, each row with its scale; then out is bf16, f16 or f32, and a bias is of out's dtype,
// which is not f32.
struct StreamedProduct {
  std::int64_t m, n, k;
  DType dtype, out_dtype;
  void* out;
  const void* x;
  const void* w;
  const void* bias;  // nullptr for none
  std::int64_t out_stride, x_stride;
  const float *x_scales, *w_scales;  // of fp8: [m], [n]
};

// Rows of x that it takes at most.
inline constexpr std::int64_t streamed_rows = 64;

// Enqueues the product; false when it is none of these: m at most streamed_rows, n a multiple of 8,
// rows of x, w and out at multiples of 16 bytes, a device of compute capability 9.0. Gives the same
// bits each time. What wrote w must have ended before the call: w may be read before the work in
// front of it on the stream has run.
bool streamed_product(const StreamedProduct& product, Stream stream);

}  // namespace millrace::cuda
