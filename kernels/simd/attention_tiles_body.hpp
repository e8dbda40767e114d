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
    __builtin_prefetch(line + byte, 0, 2);
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

inline float softmax_row(float* scores, std::int64_t begin, std::int64_t end,
                         const ScoreParams& params, float* largest, float* total) {
  constexpr int width = Vector::width;
  constexpr int vectors = key_tile / width;
  if (begin >= end) {
    for (int i = 0; i < vectors; ++i) store(scores + i * width, broadcast(0.0F));
    return 1.0F;
  }
  const Vector hidden = broadcast(-__builtin_inff());
  const Vector first = broadcast(static_cast<float>(begin));
  const Vector last = broadcast(static_cast<float>(end));
  Vector score[vectors];
  Vector most = hidden;
  for (int i = 0; i < vectors; ++i) {
    score[i] = load(scores + i * width) * broadcast(params.scale);
    if (params.softcap > 0) {
      score[i] = broadcast(params.softcap) * tanh(score[i] / broadcast(params.softcap));
    }
    const Vector index = ascending(static_cast<float>(i * width));
    score[i] = select_less(index, first, hidden, select_less(index, last, score[i], hidden));
    most = max(most, score[i]);
  }
  const float tile_largest = reduce_max(most);
  const float new_largest = *largest > tile_largest ? *largest : tile_largest;
  const Vector reference = broadcast(new_largest);
  Vector sum = broadcast(0.0F);
  for (int i = 0; i < vectors; ++i) {
    const Vector weight = exp(score[i] - reference);
    store(scores + i * width, weight);
    sum = sum + weight;
  }
  float factor = 1.0F;
  if (*largest < new_largest) {
    float lanes[width];
    store(lanes, exp(broadcast(*largest) - reference));
    factor = lanes[0];
  }
  *total = *total * factor + reduce_sum(sum);
  *largest = new_largest;
  return factor;
}

inline void scale_row(float* row, float factor, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += Vector::width)
    store(row + i, load(row + i) * broadcast(factor));
}

constinit const AttentionTiles attention_tiles = {
    {load_keys<float>, load_keys<Bf16>, load_keys<F16>, load_keys<F8>},
    {load_values<float>, load_values<Bf16>, load_values<F16>, load_values<F8>},
    softmax_row,
    scale_row};

}  // namespace millrace::cpu::MILLRACE_ISA
