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
#include "kernels/linear_input.hpp"

namespace millrace {

// A [n, k] weight prepared for a device: row i holds the inputs of output feature i, as checkpoints
// store nn.Linear. Element types: f32, bf16, f16, or fp8_e4m3 with scales.
//   CPU:  packed into panels of `panel_width` output features, [ceil(n / panel_width), k,
//   panel_width];
//         features beyond n are zero.
//   CUDA: row-major [n, k].
struct LinearWeight {
  static constexpr std::int64_t panel_width = 32;

  Tensor data;
  // Of fp8, f32: [n] (rows) or [scale_blocks(n), scale_blocks(k)] (blocks; on CUDA the second is
  // padded to a multiple of 4).
  Tensor scales;
  float input_scale = 0;  // of fp8: what x is quantized with; 0: each row's own
  std::int64_t n = 0;
  std::int64_t k = 0;

  DType dtype() const { return data->dtype(); }
  bool empty() const { return n == 0; }
  std::size_t bytes() const { return data->bytes() + (scales->empty() ? 0 : scales->bytes()); }
  Fp8Scaling scaling() const {
    if (scales->data() == nullptr) return Fp8Scaling::none;
    return scales->rank() == 1 ? Fp8Scaling::rows : Fp8Scaling::blocks;
  }
};

// Prepares `w` [n, k] (rows may be strided; on the host or on `device`) for `device`. It has been
// read when this returns: a copy to CUDA synchronises the stream.
LinearWeight pack_linear(const TensorView& w, Device device, Stream stream);

// The same for a weight that is fp8 already: w fp8_e4m3 [n, k], and on the host scales f32 [n] or
// [scale_blocks(n), scale_blocks(k)]. On CUDA k must be a multiple of 16 and n of
// 8, and the device of compute capability 9.0. Throws UserError where that does not hold.
LinearWeight pack_linear_fp8(const TensorView& w, const TensorView& scales, float input_scale,
                             Device device, Stream stream);

// And for a weight of f32, bf16 or f16 that is to become fp8: each output feature is quantized as
// quantize() does a row.
LinearWeight quantize_linear(const TensorView& w, Device device, Stream stream);

// out[i, j] = (accumulate ? out[i, j] : 0) + (bias ? bias[j] : 0) + sum over c of x[i, c] * w[j, c]
//   out  [m, n]  f32 on the CPU; on CUDA f32 or x's dtype
//   x    [m, k]  activations: f32 on the CPU; on CUDA the weight's dtype. For an fp8 weight they
//                are quantized and scaled as it is; for blocks see whole_groups()
//   bias [n]     may be empty; x's dtype; with fp8 out's dtype
// Rows of out and x may be strided; x and out must not overlap. Products and sums are f32; 16-bit
// CPU weights are widened exactly. x and w stand for their scaled values; CUDA scales the sums
// instead. Throws ShapeError naming the tensor that does not fit.
void linear(const TensorView& out, const LinearInput& x, const LinearWeight& w,
            const TensorView& bias, bool accumulate, Stream stream);

namespace cpu {
decltype(millrace::pack_linear) pack_linear;
decltype(millrace::pack_linear_fp8) pack_linear_fp8;
decltype(millrace::quantize_linear) quantize_linear;
decltype(millrace::linear) linear;
// The oracle: three loops.
decltype(millrace::linear) linear_plain;
}  // namespace cpu
namespace cuda {
decltype(millrace::pack_linear) pack_linear;
decltype(millrace::pack_linear_fp8) pack_linear_fp8;
decltype(millrace::quantize_linear) quantize_linear;
decltype(millrace::linear) linear;
}  // namespace cuda

}  // namespace millrace
