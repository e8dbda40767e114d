// Matrix products with a prepared weight: out = x * w^T + bias.
//
// The CPU product is written here and not taken from a library because of a promise that libraries
// do not give: the bits of an output row depend only on that row of x. Every output element is one
// chain of multiply-adds over k in ascending order, whatever the number of rows, the row's place in
// the batch or the number of threads. (oneDNN is the measured ceiling in bench/kernels; it picks
// another kernel, and other bits, per shape.) On CUDA the order is the library's.
#pragma once

#include <cstdint>

#include "kernels/base/stream.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

// A [n, k] weight prepared for a device: row i holds the inputs of output feature i, as checkpoints
// store nn.Linear. Element types: f32, bf16 or f16.
//   CPU:  packed into panels of `panel_width` output features, [ceil(n / panel_width), k,
//   panel_width];
//         features beyond n are zero.
//   CUDA: row-major [n, k].
struct LinearWeight {
  static constexpr std::int64_t panel_width = 32;

  Tensor data;
  std::int64_t n = 0;
  std::int64_t k = 0;

  DType dtype() const { return data->dtype(); }
  bool empty() const { return n == 0; }
};

// Prepares `w` [n, k] (rows may be strided; on the host or on `device`) for `device`. It has been
// read when this returns: a copy to CUDA synchronises the stream.
LinearWeight pack_linear(const TensorView& w, Device device, Stream stream);

// out[i, j] = (accumulate ? out[i, j] : 0) + (bias ? bias[j] : 0) + sum over c of x[i, c] * w[j, c]
//   out  [m, n]  f32 on the CPU; on CUDA f32 or x's dtype
//   x    [m, k]  activations: f32 on the CPU; on CUDA the weight's dtype
//   bias [n]     may be empty; x's dtype
// Rows of out and x may be strided; x and out must not overlap. Products and sums are f32; 16-bit
// CPU weights are widened exactly. Throws ShapeError naming the tensor that does not fit.
void linear(const TensorView& out, const TensorView& x, const LinearWeight& w,
            const TensorView& bias, bool accumulate, Stream stream);

namespace cpu {
decltype(millrace::pack_linear) pack_linear;
decltype(millrace::linear) linear;
// The oracle: three loops.
decltype(millrace::linear) linear_plain;
}  // namespace cpu
namespace cuda {
decltype(millrace::pack_linear) pack_linear;
decltype(millrace::linear) linear;
}  // namespace cuda

}  // namespace millrace
