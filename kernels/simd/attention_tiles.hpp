// The vector parts of attention over one tile of keys, one set per instruction set.
// attention_fast.cpp strings them together with the product tiles of linear_tiles.hpp.
#pragma once

#include <cstdint>

namespace millrace::cpu {

constexpr std::int64_t key_tile = 64;  // keys; tiles start at multiples of it

// The score arithmetic of one batch row; see AttentionParams.
struct ScoreParams {
  float scale;
  float softcap;
};

// Where the cached vectors of a tile of keys lie, one pointer each. Pointers at and beyond the
// tile's count repeat the last vector, so that whole groups can be read.
struct KeyTile {
  const void* keys[key_tile];
  const void* values[key_tile];
};

// Functions with an index come for caches of f32, bf16, f16 and fp8_e4m3, in this order. `ahead` is
// the tile that will be read next, or nullptr: its memory is asked for along the way.
struct AttentionTiles {
  // Widens `count` keys into to [2, head_dim, 32] (element c of key j at [j / 32][c][j % 32]) or
  // values into to [ceil(head_dim / 32), 64, 32].
  using Load = void (*)(float* to, const KeyTile& tile, std::int64_t count, std::int64_t head_dim,
                        const KeyTile* ahead);
  Load load_keys[4];
  Load load_values[4];

  // The same two products straight from the cache, for few rows (decode), where staging a tile
  // costs more than it saves; every element is the same chain as there. For 1 to direct_rows rows;
  // [rows - 1].
  //   direct_scores: scores[r * 64 + j] = sum over c of queries[c * rows + r] * key j [c]
  //   direct_sums:   sums[p * sums_stride + r * 32 + i] += sum over j < count of
  //                    weights[r * 64 + j] * value j [p * 32 + i]
  static constexpr std::int64_t direct_rows = 4;
  using DirectScores = void (*)(float* scores, const float* queries, const KeyTile& tile,
                                std::int64_t count, std::int64_t head_dim, const KeyTile* ahead);
  using DirectSums = void (*)(float* sums, std::int64_t sums_stride, const float* weights,
                              const KeyTile& tile, std::int64_t count, std::int64_t head_dim,
                              const KeyTile* ahead);
  DirectScores direct_scores[4][direct_rows];
  DirectSums direct_sums[4][direct_rows];

  // One step of the online softmax (arXiv:1805.02867) on a row of 64 dot products, of which those
  // in [begin, end) are visible: scores become exp(score - largest), 0 where hidden; *largest and
  // *total are brought up to date. Returns the factor by which the row's sums so far shrink.
  float (*softmax_row)(float* scores, std::int64_t begin, std::int64_t end,
                       const ScoreParams& params, float* largest, float* total);

  // row[i] *= factor for i < count, a multiple of 32.
  void (*scale_row)(float* row, float factor, std::int64_t count);
};

namespace portable {
extern const AttentionTiles attention_tiles;
}
namespace avx2 {
extern const AttentionTiles attention_tiles;
}
namespace avx512 {
extern const AttentionTiles attention_tiles;
}

}  // namespace millrace::cpu
