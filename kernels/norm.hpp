// Normalisation of rows, alone or joined with the residual sum before it.
#pragma once

#include <cstdint>

#include "kernels/base/stream.hpp"
#include "kernels/base/tensor.hpp"
#include "kernels/linear_input.hpp"

namespace millrace {

enum class NormKind : std::uint8_t { rms, layer };

// rms:   y = x / sqrt(mean(x^2) + eps) * (weight + weight_offset)            arXiv:1910.07467
// layer: y = (x - mean(x)) / sqrt(var(x) + eps) * (weight + weight_offset) + bias arXiv:1607.06450
// weight and bias are [hidden] in the activations' dtype; bias is empty for none (rms has none).
// weight_offset is 1 for checkpoints that store weight - 1 (Gemma), else 0.
struct NormWeights {
  NormKind kind = NormKind::rms;
  TensorView weight;
  TensorView bias;
  float eps = 1e-5F;
  float weight_offset = 0;
};

// out[t] = norm(x[t]). out and x are [tokens, hidden]; rows may be strided; out may be x. Sums are
// f32. A quantized out is quantize() of the norm, which is not rounded to the activations' dtype
// before.
void norm(const LinearInput& out, const TensorView& x, const NormWeights& weights, Stream stream);

// residual += x, then out[t] = norm(residual[t]); all [tokens, hidden]. The sum is rounded to the
// activations' dtype before it is normalised, so that add_norm equals add, then norm. out may be x
// or residual (which then holds the norm, as models that normalise after the sum want it).
void add_norm(const LinearInput& out, const TensorView& residual, const TensorView& x,
              const NormWeights& weights, Stream stream);

// Throws ShapeError naming `op` unless the arguments fit add_norm(): for ops that are joined with
// it (comm/all_reduce_add_norm.hpp).
void check_add_norm(const char* op, const LinearInput& out, const TensorView& residual,
                    const TensorView& x, const NormWeights& weights, Stream stream);

// residual += x; both [tokens, hidden].
void add(const TensorView& residual, const TensorView& x, Stream stream);

namespace cpu {
decltype(millrace::norm) norm;
decltype(millrace::add_norm) add_norm;
decltype(millrace::add) add;
}  // namespace cpu
namespace cuda {
decltype(millrace::norm) norm;
decltype(millrace::add_norm) add_norm;
decltype(millrace::add) add;
}  // namespace cuda

}  // namespace millrace
