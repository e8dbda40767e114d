// The functions of sampling_tiles.hpp for one instruction set: included by
// sampling_tiles_<isa>.cpp. The loops over a chunk are plain; the compiler turns them into vectors
// of the set's width.
#pragma once

#include "kernels/sampling_math.hpp"
#include "kernels/simd/sampling_tiles.hpp"
#include "kernels/simd/vector.hpp"

namespace millrace::cpu::MILLRACE_ISA {

constexpr int chunk = 256;
constexpr float minus_infinity = -__builtin_inff();

inline float largest(const float* x, std::int64_t n) {
  constexpr int width = Vector::width;
  Vector most[4];
  for (Vector& lane : most) lane = broadcast(minus_infinity);
  std::int64_t i = 0;
  // max gives its second operand when the first is NaN.
  for (; i + 4 * width <= n; i += 4 * width) {
    for (int j = 0; j < 4; ++j) most[j] = max(load(x + i + j * width), most[j]);
  }
  float value = reduce_max(max(max(most[0], most[1]), max(most[2], most[3])));
  for (; i < n; ++i) value = x[i] > value ? x[i] : value;
  return value;
}

// masses[i] = mass((x[i] - largest) * scale), 0 for -infinity and NaN.
inline void chunk_masses(std::int64_t* masses, const float* x, int n, float largest_logit,
                         float scale) {
  for (int i = 0; i < n; ++i) {
    const float logit = x[i] > minus_infinity ? x[i] : minus_infinity;
    masses[i] = mass(mul_rn(add_rn(logit, -largest_logit), scale));
  }
}

inline std::int64_t total_mass(const float* x, std::int64_t n, float largest_logit, float scale) {
  std::int64_t total = 0;
  for (std::int64_t begin = 0; begin < n; begin += chunk) {
    const int count = static_cast<int>(n - begin < chunk ? n - begin : chunk);
    std::int64_t masses[chunk];
    chunk_masses(masses, x + begin, count, largest_logit, scale);
    for (int i = 0; i < count; ++i) total += masses[i];
  }
  return total;
}

inline void histogram(std::int64_t* bins, const float* x, std::int64_t n, bool by_mass,
                      float largest_logit, float scale, std::int32_t threshold,
                      std::uint32_t prefix, int shift) {
  for (std::int64_t begin = 0; begin < n; begin += chunk) {
    const int count = static_cast<int>(n - begin < chunk ? n - begin : chunk);
    const float* logits = x + begin;
    // 1 + the bin of a logit that takes part, 0 for others.
    std::uint16_t places[chunk];
    int parts = 0;
    for (int i = 0; i < count; ++i) {
      const std::int32_t key = monotone_key(logits[i]);
      const std::uint32_t order = static_cast<std::uint32_t>(key) ^ 0x80000000U;
      const bool matches = shift == 24 || ((order ^ prefix) >> 8 >> shift) == 0;
      const bool part = (logits[i] > minus_infinity) & (key >= threshold) & matches;
      places[i] = static_cast<std::uint16_t>(part ? 1 + ((order >> shift) & 0xffU) : 0);
      parts += part ? 1 : 0;
    }
    if (parts == 0) continue;
    std::int64_t masses[chunk];
    if (by_mass) chunk_masses(masses, logits, count, largest_logit, scale);
    for (int i = 0; i < count; ++i) {
      if (places[i] != 0) bins[places[i] - 1] += by_mass ? masses[i] : 1;
    }
  }
}

// noise[i] of tokens 4 * quad + i.
inline void chunk_noise(float* noise, std::int64_t key, std::int32_t position, std::int32_t quad) {
  std::uint32_t words[chunk];
  for (int q = 0; q < chunk / 4; ++q) {
    const Philox block = noise_words(key, position, quad + q);
    for (int i = 0; i < 4; ++i) words[4 * q + i] = block.word[i];
  }
  for (int i = 0; i < chunk; ++i) noise[i] = gumbel(words[i]);
}

inline std::int64_t draw(const float* x, std::int64_t n, std::int64_t first, const RowDraw& row) {
  const bool greedy = row.inverse_temperature == 0;
  const float scale = greedy ? 1.0F : row.inverse_temperature;
  float best = minus_infinity;
  std::int64_t best_index = -1;
  // Chunks start at whole quads of tokens; the first one may begin before the row.
  for (std::int64_t begin = -(first % 4); begin < n; begin += chunk) {
    const std::int64_t from = begin < 0 ? 0 : begin;
    const std::int64_t to = begin + chunk < n ? begin + chunk : n;
    float values[chunk];
    for (std::int64_t i = from; i < to; ++i) {
      const bool open = (x[i] > minus_infinity) & (monotone_key(x[i]) >= row.threshold);
      values[i - begin] = open ? mul_rn(x[i], scale) : minus_infinity;
    }
    const float most = largest(values + (from - begin), to - from);
    // Nothing here can win, whatever its noise.
    if (!(most > minus_infinity) || add_rn(most, greedy ? 0.0F : gumbel_max) < best) continue;
    if (!greedy) {
      float noise[chunk];
      chunk_noise(noise, row.noise_key, row.position,
                  static_cast<std::int32_t>((first + begin) / 4));
      for (std::int64_t i = from - begin; i < to - begin; ++i)
        values[i] = add_rn(values[i], noise[i]);
    }
    for (std::int64_t i = from; i < to; ++i) {
      if (values[i - begin] > best) {
        best = values[i - begin];
        best_index = i;
      }
    }
  }
  if (best_index < 0) return no_candidate;
  return pack_candidate(best, static_cast<std::int32_t>(first + best_index));
}

constinit const SamplingTiles sampling_tiles = {largest, total_mass, histogram, draw};

}  // namespace millrace::cpu::MILLRACE_ISA
