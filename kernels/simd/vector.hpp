// One vector register of floats, for the instruction set that the including file was made for: it
// defines MILLRACE_ISA as avx512, avx2 or portable before its first include (portable when it does
// not).
//
// Files that are compiled with extra instruction flags may include nothing but headers of this
// folder and <cstdint>: an inline function of the standard library would be emitted with those
// instructions, and the linker may keep that copy for the whole program. Everything here lives in a
// namespace named after the instruction set for the same reason.
#pragma once

#include <cstdint>

#ifndef MILLRACE_ISA
#define MILLRACE_ISA portable
#define MILLRACE_ISA_LEVEL 0
#endif

#if MILLRACE_ISA_LEVEL > 0
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace millrace::cpu::MILLRACE_ISA {

// Raw 16-bit floats, as in Half::bits and Bfloat16::bits.
struct F16 {
  std::uint16_t bits;
};
struct Bf16 {
  std::uint16_t bits;
};
struct F8 {  // E4M3
  std::uint8_t bits;
};

#if MILLRACE_ISA_LEVEL == 512

struct Vector {
  static constexpr int width = 16;
  static constexpr int registers = 32;
  __m512 v;
};
inline Vector load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline Vector load(const Bf16* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
inline Vector load(const F16* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline void store(float* p, Vector a) { _mm512_storeu_ps(p, a.v); }
inline Vector broadcast(float a) { return {_mm512_set1_ps(a)}; }
// a * b + c, rounded once.
inline Vector fma(Vector a, Vector b, Vector c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vector max(Vector a, Vector b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vector min(Vector a, Vector b) { return {_mm512_min_ps(a.v, b.v)}; }
// a < b ? x : y, lane by lane.
inline Vector select_less(Vector a, Vector b, Vector x, Vector y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
// Adds (n << 23) to the bits of p, where n sits in the low bits of `shifted`.
inline Vector add_exponent(Vector p, Vector shifted) {
  const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(shifted.v), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p.v), n))};
}
inline Vector load(const F8* p) {
  const __m512i bits = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m512i magnitude = _mm512_slli_epi32(_mm512_and_si512(bits, _mm512_set1_epi32(0x7f)), 20);
  const __m512i sign = _mm512_slli_epi32(_mm512_and_si512(bits, _mm512_set1_epi32(0x80)), 24);
  const __m512 finite = _mm512_mul_ps(_mm512_castsi512_ps(magnitude), _mm512_set1_ps(0x1p120F));
  const __mmask16 nan = _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(0x7f << 20));
  const __m512i value =
      _mm512_mask_mov_epi32(_mm512_castps_si512(finite), nan, _mm512_set1_epi32(0x7fc00000));
  return {_mm512_castsi512_ps(_mm512_or_si512(value, sign))};
}
// Turns a square of `width` vectors over its diagonal: single floats, pairs, then groups of four.
inline void transpose(Vector (&rows)[16]) {
  __m512 a[16];
  for (int i = 0; i < 16; i += 4) {
    const __m512 low01 = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
    const __m512 low23 = _mm512_unpacklo_ps(rows[i + 2].v, rows[i + 3].v);
    const __m512 high01 = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
    const __m512 high23 = _mm512_unpackhi_ps(rows[i + 2].v, rows[i + 3].v);
    a[i] = _mm512_shuffle_ps(low01, low23, 0x44);
    a[i + 1] = _mm512_shuffle_ps(low01, low23, 0xee);
    a[i + 2] = _mm512_shuffle_ps(high01, high23, 0x44);
    a[i + 3] = _mm512_shuffle_ps(high01, high23, 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512 even01 = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88);
    const __m512 odd01 = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd);
    const __m512 even23 = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88);
    const __m512 odd23 = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xdd);
    rows[i].v = _mm512_shuffle_f32x4(even01, even23, 0x88);
    rows[i + 4].v = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
    rows[i + 8].v = _mm512_shuffle_f32x4(even01, even23, 0xdd);
    rows[i + 12].v = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
  }
}

#elif MILLRACE_ISA_LEVEL == 2

struct Vector {
  static constexpr int width = 8;
  static constexpr int registers = 16;
  __m256 v;
};
inline Vector load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline Vector load(const Bf16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
inline Vector load(const F16* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline void store(float* p, Vector a) { _mm256_storeu_ps(p, a.v); }
inline Vector broadcast(float a) { return {_mm256_set1_ps(a)}; }
inline Vector fma(Vector a, Vector b, Vector c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vector max(Vector a, Vector b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vector min(Vector a, Vector b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vector select_less(Vector a, Vector b, Vector x, Vector y) {
  return {_mm256_blendv_ps(y.v, x.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))};
}
inline Vector add_exponent(Vector p, Vector shifted) {
  const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(shifted.v), 23);
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p.v), n))};
}
inline Vector load(const F8* p) {
  const __m256i bits = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m256i magnitude = _mm256_slli_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x7f)), 20);
  const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x80)), 24);
  const __m256 finite = _mm256_mul_ps(_mm256_castsi256_ps(magnitude), _mm256_set1_ps(0x1p120F));
  const __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7f << 20)),
                                       _mm256_set1_epi32(0x7fc00000));
  return {_mm256_or_ps(finite, _mm256_castsi256_ps(_mm256_or_si256(nan, sign)))};
}
inline void transpose(Vector (&rows)[8]) {
  __m256 a[8];
  for (int i = 0; i < 8; i += 4) {
    const __m256 low01 = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
    const __m256 low23 = _mm256_unpacklo_ps(rows[i + 2].v, rows[i + 3].v);
    const __m256 high01 = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
    const __m256 high23 = _mm256_unpackhi_ps(rows[i + 2].v, rows[i + 3].v);
    a[i] = _mm256_shuffle_ps(low01, low23, 0x44);
    a[i + 1] = _mm256_shuffle_ps(low01, low23, 0xee);
    a[i + 2] = _mm256_shuffle_ps(high01, high23, 0x44);
    a[i + 3] = _mm256_shuffle_ps(high01, high23, 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i].v = _mm256_permute2f128_ps(a[i], a[i + 4], 0x20);
    rows[i + 4].v = _mm256_permute2f128_ps(a[i], a[i + 4], 0x31);
  }
}

#else

// GCC's and Clang's vector extension: 128-bit registers on every 64-bit architecture.
using Float4 = float __attribute__((vector_size(16)));
using Int4 = std::int32_t __attribute__((vector_size(16)));

struct Vector {
  static constexpr int width = 4;
#ifdef __aarch64__
  static constexpr int registers = 32;
#else
  static constexpr int registers = 16;
#endif
  Float4 v;
};
inline Vector load(const float* p) {
  Vector a;
  __builtin_memcpy(&a.v, p, sizeof(a.v));
  return a;
}
inline Vector load(const Bf16* p) {
  const Int4 bits = {p[0].bits, p[1].bits, p[2].bits, p[3].bits};
  return {reinterpret_cast<Float4>(bits << 16)};
}
// Shifts exponent and mantissa into place and lets a product with 2^112 rebias them: exact for
// subnormals too. Infinities and NaN get the largest exponent by hand.
inline Vector load(const F16* p) {
  const Int4 bits = {p[0].bits, p[1].bits, p[2].bits, p[3].bits};
  const Int4 sign = (bits & 0x8000) << 16;
  const Int4 magnitude = (bits & 0x7fff) << 13;
  const Float4 finite = reinterpret_cast<Float4>(magnitude) * 0x1p112F;
  const Int4 special = (magnitude >= 0x0f800000) & 0x7f800000;
  return {reinterpret_cast<Float4>(reinterpret_cast<Int4>(finite) | special | sign)};
}
inline void store(float* p, Vector a) { __builtin_memcpy(p, &a.v, sizeof(a.v)); }
inline Vector broadcast(float a) { return {Float4{a, a, a, a}}; }
#ifdef __aarch64__
inline Vector fma(Vector a, Vector b, Vector c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
#else
// The baseline has no fused step: rounded twice.
inline Vector fma(Vector a, Vector b, Vector c) { return {a.v * b.v + c.v}; }
#endif
inline Vector max(Vector a, Vector b) { return {a.v > b.v ? a.v : b.v}; }
inline Vector min(Vector a, Vector b) { return {a.v < b.v ? a.v : b.v}; }
inline Vector select_less(Vector a, Vector b, Vector x, Vector y) {
  return {a.v < b.v ? x.v : y.v};
}
inline Vector add_exponent(Vector p, Vector shifted) {
  return {reinterpret_cast<Float4>(reinterpret_cast<Int4>(p.v) +
                                   (reinterpret_cast<Int4>(shifted.v) << 23))};
}
inline Vector load(const F8* p) {
  const Int4 bits = {p[0].bits, p[1].bits, p[2].bits, p[3].bits};
  const Int4 magnitude = (bits & 0x7f) << 20;
  const Int4 sign = (bits & 0x80) << 24;
  const Float4 finite = reinterpret_cast<Float4>(magnitude) * 0x1p120F;
  const Int4 nan = (magnitude == (0x7f << 20)) & 0x7fc00000;
  return {reinterpret_cast<Float4>(reinterpret_cast<Int4>(finite) | nan | sign)};
}
inline void transpose(Vector (&rows)[4]) {
  const Float4 low01 = __builtin_shufflevector(rows[0].v, rows[1].v, 0, 4, 1, 5);
  const Float4 low23 = __builtin_shufflevector(rows[2].v, rows[3].v, 0, 4, 1, 5);
  const Float4 high01 = __builtin_shufflevector(rows[0].v, rows[1].v, 2, 6, 3, 7);
  const Float4 high23 = __builtin_shufflevector(rows[2].v, rows[3].v, 2, 6, 3, 7);
  rows[0].v = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
  rows[1].v = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
  rows[2].v = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
  rows[3].v = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
}

#endif

inline Vector operator+(Vector a, Vector b) { return {a.v + b.v}; }
inline Vector operator-(Vector a, Vector b) { return {a.v - b.v}; }
inline Vector operator*(Vector a, Vector b) { return {a.v * b.v}; }
inline Vector operator/(Vector a, Vector b) { return {a.v / b.v}; }

// Lane i holds first + i.
inline Vector ascending(float first) {
  float values[Vector::width];
  for (int i = 0; i < Vector::width; ++i) values[i] = first + static_cast<float>(i);
  return load(values);
}

// Over all lanes, pairing lanes i and i + half, then quarters, and so on: the same order on every
// call.
#if MILLRACE_ISA_LEVEL == 512
inline float reduce_max(Vector a) { return _mm512_reduce_max_ps(a.v); }
inline float reduce_sum(Vector a) { return _mm512_reduce_add_ps(a.v); }
#elif MILLRACE_ISA_LEVEL == 2
inline float reduce_max(Vector a) {
  __m128 b = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  b = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
inline float reduce_sum(Vector a) {
  __m128 b = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  b = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
#else
inline float reduce_max(Vector a) {
  const float low = a.v[0] > a.v[2] ? a.v[0] : a.v[2];
  const float high = a.v[1] > a.v[3] ? a.v[1] : a.v[3];
  return low > high ? low : high;
}
inline float reduce_sum(Vector a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
#endif

}  // namespace millrace::cpu::MILLRACE_ISA
