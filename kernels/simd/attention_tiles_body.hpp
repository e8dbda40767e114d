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

// Asks for the memory that the same part of the next tile will be read from.
template <typename T>
void prefetch_row(const void* ahead, std::int64_t element, std::int64_t count) {
  const char* line =
      static_cast<const char*>(ahead) + element * static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t byte = 0; byte < count * static_cast<std::int64_t>(sizeof(T)); byte += 64) {
    __builtin_prefetch(line + byte);
  }
}

template <typename T>
void load_keys(float* to, const void* from, std::int64_t first, std::int64_t count,
               std::int64_t head_dim, const void* ahead) {
  constexpr int width = Vector::width;
  const T* keys = static_cast<const T*>(from);
  const auto place = [&](std::int64_t key, std::int64_t c) {
    return to + (key / 32 * head_dim + c) * 32 + key % 32;
  };
  std::int64_t j = 0;
  for (; j + width <= count && (first + j) % width == 0; j += width) {
    std::int64_t c = 0;
    for (; c + width <= head_dim; c += width) {
      Vector square[width];
      for (int i = 0; i < width; ++i) square[i] = load(keys + (j + i) * head_dim + c);
      transpose(square);
      for (int i = 0; i < width; ++i) store(place(first + j, c + i), square[i]);
    }
    for (; c < head_dim; ++c) {
      for (int i = 0; i < width; ++i)
        *place(first + j + i, c) = load_one(keys + (j + i) * head_dim + c);
    }
    if (ahead != nullptr) prefetch_row<T>(ahead, j * head_dim, width * head_dim);
  }
  for (; j < count; ++j) {
    for (std::int64_t c = 0; c < head_dim; ++c)
      *place(first + j, c) = load_one(keys + j * head_dim + c);
  }
}

template <typename T>
void load_values(float* to, const void* from, std::int64_t first, std::int64_t count,
                 std::int64_t head_dim, const void* ahead) {
  constexpr int width = Vector::width;
  const T* values = static_cast<const T*>(from);
  for (std::int64_t j = 0; j < count; ++j) {
    std::int64_t c = 0;
    const auto place = [&](std::int64_t column) {
      return to + (column / 32 * key_tile + first + j) * 32 + column % 32;
    };
    for (; c + width <= head_dim; c += width) store(place(c), load(values + j * head_dim + c));
    for (; c < head_dim; ++c) *place(c) = load_one(values + j * head_dim + c);
    if (ahead != nullptr) prefetch_row<T>(ahead, j * head_dim, head_dim);
  }
}

template <typename T, int Rows>
void direct_scores(float* scores, const float* queries, const void* from, std::int64_t first,
                   std::int64_t count, std::int64_t head_dim, const void* ahead) {
  constexpr int width = Vector::width;
  const T* keys = static_cast<const T*>(from);
  std::int64_t j = 0;
  for (; j + width <= count; j += width) {
    Vector sum[Rows];
    for (int r = 0; r < Rows; ++r) sum[r] = broadcast(0.0F);
    std::int64_t c = 0;
    for (; c + width <= head_dim; c += width) {
      Vector square[width];
      for (int i = 0; i < width; ++i) square[i] = load(keys + (j + i) * head_dim + c);
      transpose(square);
      for (int i = 0; i < width; ++i) {
        for (int r = 0; r < Rows; ++r)
          sum[r] = fma(broadcast(queries[(c + i) * Rows + r]), square[i], sum[r]);
      }
    }
    for (; c < head_dim; ++c) {
      float column[width];
      for (int i = 0; i < width; ++i) column[i] = load_one(keys + (j + i) * head_dim + c);
      for (int r = 0; r < Rows; ++r)
        sum[r] = fma(broadcast(queries[c * Rows + r]), load(column), sum[r]);
    }
    for (int r = 0; r < Rows; ++r) store(scores + r * key_tile + first + j, sum[r]);
    if (ahead != nullptr) prefetch_row<T>(ahead, j * head_dim, width * head_dim);
  }
  for (; j < count; ++j) {
    for (int r = 0; r < Rows; ++r) {
      Vector sum = broadcast(0.0F);
      for (std::int64_t c = 0; c < head_dim; ++c) {
        sum = fma(broadcast(queries[c * Rows + r]), broadcast(load_one(keys + j * head_dim + c)),
                  sum);
      }
      float lanes[width];
      store(lanes, sum);
      scores[r * key_tile + first + j] = lanes[0];
    }
  }
}

// Columns [c, c + Strip vectors) of direct_sums.
template <typename T, int Rows, int Strip>
void direct_sums_strip(float* sums, std::int64_t sums_stride, const float* weights, const T* values,
                       std::int64_t count, std::int64_t head_dim, std::int64_t c) {
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
    Vector value[Strip];
    for (int s = 0; s < Strip; ++s) value[s] = load(values + j * head_dim + c + s * width);
    for (int r = 0; r < Rows; ++r) {
      const Vector weight = broadcast(weights[r * key_tile + j]);
      for (int s = 0; s < Strip; ++s) sum[r][s] = fma(weight, value[s], sum[r][s]);
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int s = 0; s < Strip; ++s) store(place(r, s), sum[r][s]);
  }
}

template <typename T, int Rows>
void direct_sums(float* sums, std::int64_t sums_stride, const float* weights, const void* from,
                 std::int64_t first, std::int64_t count, std::int64_t head_dim, const void* ahead) {
  constexpr int width = Vector::width;
  constexpr int strip = Vector::registers >= 32 ? 4 : 2;
  const T* values = static_cast<const T*>(from);
  weights += first;
  if (ahead != nullptr) prefetch_row<T>(ahead, 0, count * head_dim);
  std::int64_t c = 0;
  for (; c + strip * width <= head_dim; c += strip * width) {
    direct_sums_strip<T, Rows, strip>(sums, sums_stride, weights, values, count, head_dim, c);
  }
  for (; c + width <= head_dim; c += width) {
    direct_sums_strip<T, Rows, 1>(sums, sums_stride, weights, values, count, head_dim, c);
  }
  for (; c < head_dim; ++c) {
    for (int r = 0; r < Rows; ++r) {
      float* place = sums + c / 32 * sums_stride + r * 32 + c % 32;
      Vector sum = broadcast(*place);
      for (std::int64_t j = 0; j < count; ++j) {
        sum = fma(broadcast(weights[r * key_tile + j]),
                  broadcast(load_one(values + j * head_dim + c)), sum);
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
