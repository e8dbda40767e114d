// The functions of activation_tiles.hpp for one instruction set: included by
// activation_tiles_<isa>.cpp.
#pragma once

#include "kernels/simd/activation_tiles.hpp"
#include "kernels/simd/vector_math.hpp"

namespace millrace::cpu::MILLRACE_ISA {

// x / (1 + e^-y)
inline Vector times_logistic(Vector x, Vector y) {
  return x / (broadcast(1.0F) + exp(broadcast(0.0F) - y));
}

struct Silu {
  Vector operator()(Vector x) const { return times_logistic(x, x); }
};
// (1 + tanh(u)) / 2 is the logistic function of 2 u; here 2 u = x (c + d x^2).
struct GeluTanh {
  Vector operator()(Vector x) const {
    const Vector slope =
        fma(x * x, broadcast(2 * 0.7978845608F * 0.044715F), broadcast(2 * 0.7978845608F));
    return times_logistic(x, x * slope);
  }
};
struct Relu {
  // max gives its second operand when one is NaN, which a NaN in x must survive as.
  Vector operator()(Vector x) const { return max(broadcast(0.0F), x); }
};
struct QuickGelu {
  Vector operator()(Vector x) const { return times_logistic(x, x * broadcast(1.702F)); }
};
struct Softcap {
  float scale;
  float softcap;
  Vector operator()(Vector x) const {
    return broadcast(softcap) * tanh(x * broadcast(scale) / broadcast(softcap));
  }
};

// Whole vectors, then the rest by way of a padded one.
template <typename Function>
void map_row(float* out, const float* x, const float* up, std::int64_t n, Function f) {
  constexpr int width = Vector::width;
  std::int64_t i = 0;
  for (; i + width <= n; i += width) {
    const Vector value = f(load(x + i));
    store(out + i, up != nullptr ? value * load(up + i) : value);
  }
  if (i == n) return;
  float rest[width] = {};
  for (std::int64_t j = i; j < n; ++j) rest[j - i] = x[j];
  store(rest, f(load(rest)));
  for (std::int64_t j = i; j < n; ++j) out[j] = up != nullptr ? rest[j - i] * up[j] : rest[j - i];
}

template <typename Function>
void map(float* out, const float* x, const float* up, std::int64_t n) {
  map_row(out, x, up, n, Function());
}

inline void softcap_row(float* x, float scale, float softcap, std::int64_t n) {
  map_row(x, x, nullptr, n, Softcap{scale, softcap});
}

constinit const ActivationTiles activation_tiles = {map<Silu>, map<GeluTanh>, map<Relu>,
                                                    map<QuickGelu>, softcap_row};

}  // namespace millrace::cpu::MILLRACE_ISA
