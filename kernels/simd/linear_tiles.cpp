#include "kernels/simd/linear_tiles.hpp"

#include <cstring>

#include "kernels/simd/isa.hpp"

namespace millrace::cpu {

const LinearTiles& active_linear_tiles() {
#ifdef __x86_64__
  if (active_isa() == Isa::avx512) return avx512::linear_tiles;
  if (active_isa() == Isa::avx2) return avx2::linear_tiles;
#endif
  return portable::linear_tiles;
}

// Four by four, then what is left.
void pack_rows(float* to, const float* x, std::int64_t stride, std::int64_t rows, std::int64_t k) {
  using Float4 = float __attribute__((vector_size(16)));
  std::int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    std::int64_t p = 0;
    for (; p + 4 <= k; p += 4) {
      Float4 r[4];
      for (int q = 0; q < 4; ++q) std::memcpy(&r[q], x + (i + q) * stride + p, sizeof(Float4));
      const Float4 low01 = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
      const Float4 low23 = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
      const Float4 high01 = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
      const Float4 high23 = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
      const Float4 c[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                           __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                           __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                           __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
      for (int q = 0; q < 4; ++q) std::memcpy(to + (p + q) * rows + i, &c[q], sizeof(Float4));
    }
    for (; p < k; ++p) {
      for (int q = 0; q < 4; ++q) to[p * rows + i + q] = x[(i + q) * stride + p];
    }
  }
  for (; i < rows; ++i) {
    for (std::int64_t p = 0; p < k; ++p) to[p * rows + i] = x[i * stride + p];
  }
}

}  // namespace millrace::cpu
