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

#endif

}  // namespace millrace::cpu::MILLRACE_ISA
