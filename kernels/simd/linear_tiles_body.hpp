// The tiles of linear_tiles.hpp for one instruction set: included by linear_tiles_<isa>.cpp.
#pragma once

#include "kernels/simd/linear_tiles.hpp"
#include "kernels/simd/vector.hpp"

namespace millrace::cpu::MILLRACE_ISA {

constexpr int panel_vectors = 32 / Vector::width;

// Most rows such that accumulators, one row of b and a broadcast fit the registers, `columns`
// vectors wide.
constexpr int rows_for(int columns) { return (Vector::registers - columns - 1) / columns; }

// The panel is worked through in strips of this many vectors: whole when few rows leave registers
// enough, so that the panel is read once from memory; else two, which needs the fewest loads per
// product.
constexpr int strip_vectors(int rows) {
  int columns = panel_vectors;
  while (columns > 2 && rows_for(columns) < rows) columns /= 2;
  return columns;
}

constexpr int max_rows = rows_for(2) < LinearTiles::limit ? rows_for(2) : LinearTiles::limit;

template <int Rows, typename T, typename Raw>
void tile(const float* a, const Raw* raw, std::int64_t k, float* c, std::int64_t c_stride,
          const char* ahead, std::int64_t ahead_step) {
  constexpr int strip = strip_vectors(Rows);
  constexpr int width = Vector::width;
  for (int first = 0; first < 32; first += strip * width) {
    const T* b = reinterpret_cast<const T*>(raw) + first;
    Vector sum[Rows][strip];
    for (int i = 0; i < Rows; ++i) {
      for (int j = 0; j < strip; ++j) sum[i][j] = load(c + i * c_stride + first + j * width);
    }
    for (std::int64_t p = 0; p < k; ++p) {
      if (first == 0) {
        __builtin_prefetch(ahead + p * ahead_step, 0, 2);
        __builtin_prefetch(ahead + p * ahead_step + 64, 0, 2);
      }
      Vector row[strip];
      for (int j = 0; j < strip; ++j) row[j] = load(b + p * 32 + j * width);
      for (int i = 0; i < Rows; ++i) {
        const Vector factor = broadcast(a[p * Rows + i]);
        for (int j = 0; j < strip; ++j) sum[i][j] = fma(factor, row[j], sum[i][j]);
      }
    }
    for (int i = 0; i < Rows; ++i) {
      for (int j = 0; j < strip; ++j) store(c + i * c_stride + first + j * width, sum[i][j]);
    }
  }
}

template <typename T>
void widen(float* to, const std::uint16_t* from, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += Vector::width) {
    store(to + i, load(reinterpret_cast<const T*>(from) + i));
  }
}

// Selects only, and no arithmetic on subnormal floats, which is slow: the loop becomes vector code.
inline float fp8_to_float(std::uint8_t bits) {
  const std::uint32_t magnitude = bits & 0x7fU;
  const float subnormal = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-9F;
  const std::uint32_t normal = (magnitude << 20) + (120U << 23);
  std::uint32_t wide = magnitude < 8 ? __builtin_bit_cast(std::uint32_t, subnormal) : normal;
  wide = magnitude == 0x7fU ? 0x7fc00000U : wide;
  return __builtin_bit_cast(float, wide | static_cast<std::uint32_t>(bits & 0x80U) << 24);
}

void widen_fp8(float* to, const std::uint8_t* from, std::int64_t k, const float* scale) {
  for (std::int64_t p = 0; p < k; ++p) {
    for (int j = 0; j < 32; ++j) to[32 * p + j] = fp8_to_float(from[32 * p + j]) * scale[j];
  }
}

template <int Rows>
constexpr void add_tiles(LinearTiles& tiles) {
  tiles.f32[Rows - 1] = tile<Rows, float, float>;
  tiles.bf16[Rows - 1] = tile<Rows, Bf16, std::uint16_t>;
  tiles.f16[Rows - 1] = tile<Rows, F16, std::uint16_t>;
  if constexpr (Rows < max_rows) add_tiles<Rows + 1>(tiles);
}

constexpr LinearTiles make_tiles() {
  LinearTiles tiles;
  tiles.max_rows = max_rows;
  add_tiles<1>(tiles);
  tiles.widen_bf16 = widen<Bf16>;
  tiles.widen_f16 = widen<F16>;
  tiles.widen_fp8 = widen_fp8;
  return tiles;
}

constinit const LinearTiles linear_tiles = make_tiles();

}  // namespace millrace::cpu::MILLRACE_ISA
