// The inner loops of the CPU matrix product, one set per instruction set. linear_fast.cpp drives
// them.
#pragma once

#include <cstdint>

namespace millrace::cpu {

// Computes c[i, j] += sum over p < k of a[p * rows + i] * b[p * 32 + j] for `rows` rows and the 32
// columns of one panel, each element one chain in ascending p starting from c [rows, 32]. a is
// packed by linear_fast.cpp; T is float or the raw 16 bits of a Bfloat16 or Half. At each p, two
// cache lines at ahead + p * ahead_step (bytes) are asked for: what will be multiplied next.
template <typename T>
using LinearTile = void (*)(const float* a, const T* b, std::int64_t k, float* c,
                            std::int64_t c_stride, const char* ahead, std::int64_t ahead_step);

struct LinearTiles {
  static constexpr int limit = 12;

  int max_rows = 0;  // tiles exist for 1..max_rows rows, at [rows - 1]
  LinearTile<float> f32[limit] = {};
  LinearTile<std::uint16_t> bf16[limit] = {};
  LinearTile<std::uint16_t> f16[limit] = {};

  // to[i] = float of from[i], exactly.
  void (*widen_bf16)(float* to, const std::uint16_t* from, std::int64_t count) = nullptr;
  void (*widen_f16)(float* to, const std::uint16_t* from, std::int64_t count) = nullptr;
  // to[p, j] = float of the fp8 number from[p, j], times scale[j]; p < k, j < 32.
  void (*widen_fp8)(float* to, const std::uint8_t* from, std::int64_t k,
                    const float* scale) = nullptr;
};

namespace portable {
extern const LinearTiles linear_tiles;
}
namespace avx2 {
extern const LinearTiles linear_tiles;
}
namespace avx512 {
extern const LinearTiles linear_tiles;
}

// The set for active_isa().
const LinearTiles& active_linear_tiles();

// to[p * rows + i] = x[i * stride + p] for p < k: the order in which a tile of `rows` rows reads
// them.
void pack_rows(float* to, const float* x, std::int64_t stride, std::int64_t rows, std::int64_t k);

// How `rows` rows are cut into tiles of at most max_rows and nearly equal height.
struct RowTiling {
  std::int64_t count;
  std::int64_t rows;

  RowTiling(std::int64_t rows_, std::int64_t max_rows)
      : count((rows_ + max_rows - 1) / max_rows), rows(rows_) {}
  std::int64_t begin(std::int64_t tile) const { return tile * rows / count; }
  std::int64_t height(std::int64_t tile) const { return begin(tile + 1) - begin(tile); }
};

}  // namespace millrace::cpu
