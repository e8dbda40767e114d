// Rows are spread over threads; the functions are vectors (kernels/simd/activation_tiles.hpp) but
// for the error function, which the C library computes.
#include <cmath>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/base/team.hpp"
#include "kernels/quantize.hpp"
#include "kernels/simd/activation_tiles.hpp"
#include "kernels/simd/isa.hpp"

namespace millrace::cpu {
namespace {

const ActivationTiles& active_tiles() {
#ifdef __x86_64__
  if (active_isa() == Isa::avx512) return avx512::activation_tiles;
  if (active_isa() == Isa::avx2) return avx2::activation_tiles;
#endif
  return portable::activation_tiles;
}

// erfc keeps the digits of the left tail that 1 + erf would lose.
void gelu_erf(float* out, const float* x, const float* up, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float value = 0.5F * x[i] * std::erfc(x[i] * -0.7071067812F);
    out[i] = up != nullptr ? value * up[i] : value;
  }
}

ActivationTiles::Map function_of(Activation kind) {
  switch (kind) {
    case Activation::silu:
      return active_tiles().silu;
    case Activation::gelu_tanh:
      return active_tiles().gelu_tanh;
    case Activation::gelu_erf:
      return gelu_erf;
    case Activation::relu:
      return active_tiles().relu;
    case Activation::quick_gelu:
      return active_tiles().quick_gelu;
  }
  return nullptr;
}

float* row(const TensorView& tensor, std::int64_t t) {
  return tensor.as<float>() + t * tensor.stride(0);
}

// Row t of `out`, whatever its form: f(x), times `up` when there is one.
void map_into(const LinearInput& out, std::int64_t t, ActivationTiles::Map f, const float* x,
              const float* up) {
  if (!out.is_quantized()) return f(row(out.values, t), x, up, out.size(1));
  thread_local std::vector<float> values;
  values.resize(static_cast<std::size_t>(out.size(1)));
  f(values.data(), x, up, out.size(1));
  quantize_row(out, t, values.data());
}

// What `out` takes one thread.
std::int64_t nanoseconds(const LinearInput& out, Activation kind) {
  const std::int64_t n = out.values.numel();
  return (kind == Activation::gelu_erf ? 10 * n : n / 4) +
         (out.is_quantized() ? n * quantize_nanoseconds : 0);
}

}  // namespace

void activation(const LinearInput& out, const TensorView& x, Activation kind, Stream) {
  const ActivationTiles::Map f = function_of(kind);
#pragma omp parallel for schedule(static) if (worth_a_team(out.size(0), nanoseconds(out, kind)))
  for (std::int64_t t = 0; t < out.size(0); ++t) map_into(out, t, f, row(x, t), nullptr);
}

void gated_activation(const LinearInput& out, const TensorView& gate_up, Activation kind, Stream) {
  const ActivationTiles::Map f = function_of(kind);
  const std::int64_t n = out.size(1);
#pragma omp parallel for schedule(static) if (worth_a_team(out.size(0), nanoseconds(out, kind)))
  for (std::int64_t t = 0; t < out.size(0); ++t) {
    map_into(out, t, f, row(gate_up, t), row(gate_up, t) + n);
  }
}

void scale_softcap(const TensorView& x, float scale, float softcap, Stream) {
  const ActivationTiles& tiles = active_tiles();
#pragma omp parallel for schedule(static) if (worth_a_team(x.size(0), x.numel() / 4))
  for (std::int64_t r = 0; r < x.size(0); ++r) {
    float* logits = row(x, r);
    if (softcap > 0) {
      tiles.softcap(logits, scale, softcap, x.size(1));
    } else {
      for (std::int64_t i = 0; i < x.size(1); ++i) logits[i] *= scale;
    }
  }
}

}  // namespace millrace::cpu
