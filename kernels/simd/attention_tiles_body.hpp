// The parts of attention_tiles.hpp for one instruction set: included by attention_tiles_<isa>.cpp.
#pragma once

#include "kernels/simd/attention_tiles.hpp"
#include "kernels/simd/vector.hpp"
#include "kernels/simd/vector_math.hpp"

namespace millrace::cpu::MILLRACE_ISA {

// One element, by way of a vector so that both widen alike.
template <typename T>
float load_one(const T* from) {
  T padded[Vector::width] = {*from};
  float widened[Vector::width];
  store(widened, load(padded));
  return widened[0];
}
inline float load_one(const float* from) { return *from; }

// Asks for the cache lines that start within elements [begin, end) of `count` vectors. Called
// between loads, a few lines at a time: a burst of requests would hold the loads up.
template <typename T>
void prefetch(const void* const* rows, std::int64_t count, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t line = 64;
  constexpr auto size = static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t byte = (begin * size + line - 1) / line * line; byte < end * size;
       byte += line) {
    for (std::int64_t i = 0; i < count; ++i) {
      __builtin_prefetch(static_cast<const char*>(rows[i]) + byte);
    }
  }
}

// Elements [c, c + width) of `width` keys, one vector for each element.
template <typename T>
void load_square(Vector (&square)[Vector::width], const void* const* rows, std::int64_t c) {
  for (int i = 0; i < Vector::width; ++i) square[i] = load(static_cast<const T*>(rows[i]) + c);
  transpose(square);
}

// Element c of `width` keys.
template <typename T>
Vector load_column(const void* const* rows, std::int64_t c) {
  float column[Vector::width];
  for (int i = 0; i < Vector::width; ++i) column[i] = load_one(static_cast<const T*>(rows[i]) + c);
  return load(column);
}

template <typename T>
void load_keys(float* to, const KeyTile& tile, std::int64_t count, std::int64_t head_dim,
               const KeyTile* ahead) {
  constexpr int width = Vector::width;
  for (std::int64_t j = 0; j < count; j += width) {
    float* place = to + j / 32 * head_dim * 32 + j % 32;
    std::int64_t c = 0;
    for (; c + width <= head_dim; c += width) {
      Vector square[width];
      load_square<T>(square, tile.keys + j, c);
      for (int i = 0; i < width; ++i) store(place + (c + i) * 32, square[i]);
      if (ahead != nullptr) prefetch<T>(ahead->keys + j, width, c, c + width);
    }
    for (; c < head_dim; ++c) store(place + c * 32, load_column<T>(tile.keys + j, c));
  }
}

template <typename T>
void load_values(float* to, const KeyTile& tile, std::int64_t count, std::int64_t head_dim,
                 const KeyTile* ahead) {
  constexpr int width = Vector::width;
  for (std::int64_t j = 0; j < count; ++j) {
    const T* value = static_cast<const T*>(tile.values[j]);
    const auto place = [&](std::int64_t c) { return to + (c / 32 * key_tile + j) * 32 + c % 32; };
    std::int64_t c = 0;
    for (; c + width <= head_dim; c += width) store(place(c), load(value + c));
    for (; c < head_dim; ++c) *place(c) = load_one(value + c);
    if (ahead != nullptr) prefetch<T>(ahead->values + j, 1, 0, head_dim);
  }
}

// Two groups of keys in turn, so that one's chain of sums goes on while the other is transposed.
template <typename T, int Rows>
void direct_scores(float* scores, const float* queries, const KeyTile& tile, std::int64_t count,
                   std::int64_t head_dim, const KeyTile* ahead) {
  constexpr int width = Vector::width;
  constexpr int groups = 2;
  for (std::int64_t j = 0; j < count; j += groups * width) {
    Vector sum[groups][Rows];
    for (auto& group : sum) {
      for (Vector& row : group) row = broadcast(0.0F);
    }
    std::int64_t c = 0;
    for (; c + width <= head_dim; c += width) {
      for (int g = 0; g < groups; ++g) {
        Vector square[width];
        load_square<T>(square, tile.keys + j + g * width, c);
        for (int i = 0; i < width; ++i) {
          for (int r = 0; r < Rows; ++r) {
            sum[g][r] = fma(broadcast(queries[(c + i) * Rows + r]), square[i], sum[g][r]);
          }
        }
        if (ahead != nullptr) prefetch<T>(ahead->keys + j + g * width, width, c, c + width);
      }
    }
    for (; c < head_dim; ++c) {
      for (int g = 0; g < groups; ++g) {
        const Vector column = load_column<T>(tile.keys + j + g * width, c);
        for (int r = 0; r < Rows; ++r) {
          sum[g][r] = fma(broadcast(queries[c * Rows + r]), column, sum[g][r]);
        }
      }
    }
    for (int g = 0; g < groups; ++g) {
      for (int r = 0; r < Rows; ++r) store(scores + r * key_tile + j + g * width, sum[g][r]);
    }
  }
}

// Columns [c, c + Strip vectors) of direct_sums.
template <typename T, int Rows, int Strip>
void direct_sums_strip(float* sums, std::int64_t sums_stride, const float* weights,
                       const KeyTile& tile, std::int64_t count, std::int64_t c,
                       const KeyTile* ahead) {
  constexpr int width = Vector::width;
  const auto place = [&](int r, int s) {
    const std::int64_t column = c + s * width;
    return sums + column / 32 * sums_stride + r * 32 + column % 32;
  };
  Vector sum[Rows][Strip];
  for (int r = 0; r < Rows; ++r) {
    for (int s = 0; s < Strip; ++s) sum[r][s] = load(place(r, s));
  }
  for (std::int64_t j = 0; j < count; ++j) {
    const T* from = static_cast<const T*>(tile.values[j]) + c;
    Vector value[Strip];
    for (int s = 0; s < Strip; ++s) value[s] = load(from + s * width);
    for (int r = 0; r < Rows; ++r) {
      const Vector weight = broadcast(weights[r * key_tile + j]);
      for (int s = 0; s < Strip; ++s) sum[r][s] = fma(weight, value[s], sum[r][s]);
    }
    if (ahead != nullptr) prefetch<T>(ahead->values + j, 1, c, c + Strip * width);
  }
  for (int r = 0; r < Rows; ++r) {
    for (int s = 0; s < Strip; ++s) store(place(r, s), sum[r][s]);
  }
}

template <typename T, int Rows>
void direct_sums(float* sums, std::int64_t sums_stride, const float* weights, const KeyTile& tile,
                 std::int64_t count, std::int64_t head_dim, const KeyTile* ahead) {
  constexpr int width = Vector::width;
  constexpr int strip = Vector::registers >= 32 ? 4 : 2;
  std::int64_t c = 0;
  for (; c + strip * width <= head_dim; c += strip * width) {
    direct_sums_strip<T, Rows, strip>(sums, sums_stride, weights, tile, count, c, ahead);
  }
  for (; c + width <= head_dim; c += width) {
    direct_sums_strip<T, Rows, 1>(sums, sums_stride, weights, tile, count, c, ahead);
  }
  for (; c < head_dim; ++c) {
    for (int r = 0; r < Rows; ++r) {
      float* place = sums + c / 32 * sums_stride + r * 32 + c % 32;
      Vector sum = broadcast(*place);
      for (std::int64_t j = 0; j < count; ++j) {
        const float value = load_one(static_cast<const T*>(tile.values[j]) + c);
        sum = fma(broadcast(weights[r * key_tile + j]), broadcast(value), sum);
      }
      float lanes[width];
      store(lanes, sum);
      *place = lanes[0];
    }
  }
}

inline float softmax_row(float* scores, std::int64_t begin, std::int64_t end,
                         const ScoreParams& params, float* largest, float* total) {
  constexpr int width = Vector::width;
  constexpr int vectors = key_tile / width;
  if (begin >= end) {
    for (int i = 0; i < vectors; ++i) store(scores + i * width, broadcast(0.0F));
    return 1.0F;
  }
  const Vector hidden = broadcast(-__builtin_inff());
  Vector score[vectors];
  for (int i = 0; i < vectors; ++i) score[i] = load(scores + i * width) * broadcast(params.scale);
  if (params.softcap > 0) {
    const Vector softcap = broadcast(params.softcap);
    for (int i = 0; i < vectors; ++i) score[i] = softcap * tanh(score[i] / softcap);
  }
  if (begin > 0 || end < key_tile) {
    const Vector first = broadcast(static_cast<float>(begin));
    const Vector last = broadcast(static_cast<float>(end));
    for (int i = 0; i < vectors; ++i) {
      const Vector index = ascending(static_cast<float>(i * width));
      score[i] = select_less(index, first, hidden, select_less(index, last, score[i], hidden));
    }
  }
  Vector most = score[0];
  for (int i = 1; i < vectors; ++i) most = max(most, score[i]);
  const float tile_largest = reduce_max(most);
  const float new_largest = *largest > tile_largest ? *largest : tile_largest;
  const Vector reference = broadcast(new_largest);
  Vector sum = broadcast(0.0F);
  for (int i = 0; i < vectors; ++i) {
    const Vector weight = exp_bounded(score[i] - reference);
    store(scores + i * width, weight);
    sum = sum + weight;
  }
  float factor = 1.0F;
  if (*largest < new_largest) {
    float lanes[width];
    store(lanes, exp_bounded(broadcast(*largest) - reference));
    factor = lanes[0];
  }
  *total = *total * factor + reduce_sum(sum);
  *largest = new_largest;
  return factor;
}

inline void scale_row(float* row, float factor, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += Vector::width) {
    store(row + i, load(row + i) * broadcast(factor));
  }
}

template <typename T>
constexpr void add_dtype(AttentionTiles& tiles, int index) {
  tiles.load_keys[index] = load_keys<T>;
  tiles.load_values[index] = load_values<T>;
  tiles.direct_scores[index][0] = direct_scores<T, 1>;
  tiles.direct_scores[index][1] = direct_scores<T, 2>;
  tiles.direct_scores[index][2] = direct_scores<T, 3>;
  tiles.direct_scores[index][3] = direct_scores<T, 4>;
  tiles.direct_sums[index][0] = direct_sums<T, 1>;
  tiles.direct_sums[index][1] = direct_sums<T, 2>;
  tiles.direct_sums[index][2] = direct_sums<T, 3>;
  tiles.direct_sums[index][3] = direct_sums<T, 4>;
}

constexpr AttentionTiles make_attention_tiles() {
  AttentionTiles tiles{};
  add_dtype<float>(tiles, 0);
  add_dtype<Bf16>(tiles, 1);
  add_dtype<F16>(tiles, 2);
  add_dtype<F8>(tiles, 3);
  tiles.softmax_row = softmax_row;
  tiles.scale_row = scale_row;
  return tiles;
}

constinit const AttentionTiles attention_tiles = make_attention_tiles();

}  // namespace millrace::cpu::MILLRACE_ISA
