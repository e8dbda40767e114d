#include <cmath>

#include "kernels/activation.hpp"

namespace millrace::cpu {
namespace {

float silu(float x) { return x / (1.0F + std::exp(-x)); }
float gelu_tanh(float x) {
  return 0.5F * x * (1.0F + std::tanh(0.7978845608F * (x + 0.044715F * x * x * x)));
}
float gelu_erf(float x) { return 0.5F * x * (1.0F + std::erf(x * 0.7071067812F)); }
float relu(float x) { return x > 0.0F ? x : 0.0F; }
float quick_gelu(float x) { return x / (1.0F + std::exp(-1.702F * x)); }

template <typename Function>
void map_rows(const TensorView& out, const TensorView& x, bool gated, Function f) {
  const std::int64_t n = out.size(1);
#pragma omp parallel for schedule(static)
  for (std::int64_t t = 0; t < out.size(0); ++t) {
    float* to = out.as<float>() + t * out.stride(0);
    const float* from = x.as<float>() + t * x.stride(0);
    for (std::int64_t i = 0; i < n; ++i) to[i] = gated ? f(from[i]) * from[n + i] : f(from[i]);
  }
}

void map_kind(const TensorView& out, const TensorView& x, bool gated, Activation kind) {
  switch (kind) {
    case Activation::silu:
      return map_rows(out, x, gated, silu);
    case Activation::gelu_tanh:
      return map_rows(out, x, gated, gelu_tanh);
    case Activation::gelu_erf:
      return map_rows(out, x, gated, gelu_erf);
    case Activation::relu:
      return map_rows(out, x, gated, relu);
    case Activation::quick_gelu:
      return map_rows(out, x, gated, quick_gelu);
  }
}

}  // namespace

void activation(const TensorView& out, const TensorView& x, Activation kind, Stream) {
  map_kind(out, x, false, kind);
}

void gated_activation(const TensorView& out, const TensorView& gate_up, Activation kind, Stream) {
  map_kind(out, gate_up, true, kind);
}

void scale_softcap(const TensorView& x, float scale, float softcap, Stream) {
  if (softcap > 0) {
    map_rows(x, x, false, [=](float v) { return softcap * std::tanh(scale * v / softcap); });
  } else {
    map_rows(x, x, false, [=](float v) { return scale * v; });
  }
}

}  // namespace millrace::cpu
