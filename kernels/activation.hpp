// Element-wise functions between the two matrices of an MLP, and on logits.
#pragma once

#include <cstdint>

#include "kernels/base/stream.hpp"
#include "kernels/base/tensor.hpp"
#include "kernels/linear_input.hpp"

namespace millrace {

// silu        x / (1 + exp(-x))                                            arXiv:1702.03118
// gelu_tanh   x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))        arXiv:1606.08415
// gelu_erf    x / 2 * (1 + erf(x / sqrt(2)))
// relu        max(x, 0)
// quick_gelu  x / (1 + exp(-1.702 x))
enum class Activation : std::uint8_t { silu, gelu_tanh, gelu_erf, relu, quick_gelu };

// out = f(x), both [tokens, n] activations; rows may be strided; out may be x. A quantized out is
// quantize() of f(x), which is not rounded to the activations' dtype before.
void activation(const LinearInput& out, const TensorView& x, Activation kind, Stream stream);

// out[t, j] = f(gate_up[t, j]) * gate_up[t, n + j]; out [tokens, n], also quantized; gate_up
// [tokens, 2 n].
void gated_activation(const LinearInput& out, const TensorView& gate_up, Activation kind,
                      Stream stream);

// x = softcap > 0 ? softcap * tanh(scale * x / softcap) : scale * x, in place on [rows, n] f32
// logits.
void scale_softcap(const TensorView& x, float scale, float softcap, Stream stream);

namespace cpu {
decltype(millrace::activation) activation;
decltype(millrace::gated_activation) gated_activation;
decltype(millrace::scale_softcap) scale_softcap;
}  // namespace cpu
namespace cuda {
decltype(millrace::activation) activation;
decltype(millrace::gated_activation) gated_activation;
decltype(millrace::scale_softcap) scale_softcap;
}  // namespace cuda

}  // namespace millrace
