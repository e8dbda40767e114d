// Activations of whole rows, one set per instruction set.
#pragma once

#include <cstdint>

namespace millrace::cpu {

struct ActivationTiles {
  // out[i] = f(x[i]) * (up ? up[i] : 1) for i < n; out may be x. An element's bits depend on x[i]
  // and up[i] alone.
  using Map = void (*)(float* out, const float* x, const float* up, std::int64_t n);
  Map silu;
  Map gelu_tanh;
  Map relu;
  Map quick_gelu;

  // x[i] = softcap * tanh(scale * x[i] / softcap).
  void (*softcap)(float* x, float scale, float softcap, std::int64_t n);
};

namespace portable {
extern const ActivationTiles activation_tiles;
}
namespace avx2 {
extern const ActivationTiles activation_tiles;
}
namespace avx512 {
extern const ActivationTiles activation_tiles;
}

}  // namespace millrace::cpu
