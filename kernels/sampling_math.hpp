// The arithmetic under sampling.hpp, shared by both backends so that the CPU and a GPU draw the
// same token from the same logits, bit for bit. Every float step is one IEEE operation: products
// and sums are never fused (the kernels are compiled with -ffp-contract=off; on CUDA the _rn
// intrinsics say so).
#pragma once

#include <cstdint>

#include "kernels/base/host_device.hpp"

namespace millrace {

MILLRACE_HOST_DEVICE float mul_rn(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

MILLRACE_HOST_DEVICE float add_rn(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

MILLRACE_HOST_DEVICE std::int32_t float_bits(float value) {
  return __builtin_bit_cast(std::int32_t, value);
}

MILLRACE_HOST_DEVICE float bits_float(std::int32_t bits) { return __builtin_bit_cast(float, bits); }

// An integer that orders as the float does: a < b exactly when key(a) < key(b). Both zeros have one
// key.
MILLRACE_HOST_DEVICE std::int32_t monotone_key(float value) {
  const std::int32_t bits = float_bits(add_rn(value, 0.0F));
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

MILLRACE_HOST_DEVICE float key_float(std::int32_t key) {
  return bits_float(key ^ ((key >> 31) & 0x7fffffff));
}

// exp(x) for x <= 0, 0 below -87; within 2 ulp. Cody-Waite reduction, Cephes' expf polynomial.
MILLRACE_HOST_DEVICE float exp_rn(float x) {
  const float clamped = x < -87.0F ? -87.0F : x;
  const auto n = static_cast<std::int32_t>(add_rn(mul_rn(clamped, 1.44269504F), -0.5F));
  const auto nf = static_cast<float>(n);
  const float r = add_rn(add_rn(clamped, mul_rn(nf, -0.693359375F)), mul_rn(nf, 2.12194440e-4F));
  float p = 1.9875691500e-4F;
  p = add_rn(mul_rn(p, r), 1.3981999507e-3F);
  p = add_rn(mul_rn(p, r), 8.3334519073e-3F);
  p = add_rn(mul_rn(p, r), 4.1665795894e-2F);
  p = add_rn(mul_rn(p, r), 1.6666665459e-1F);
  p = add_rn(mul_rn(p, r), 5.0000001201e-1F);
  p = add_rn(add_rn(mul_rn(p, mul_rn(r, r)), r), 1.0F);
  const float value = mul_rn(p, bits_float((n + 127) << 23));
  // As a mask, not a branch, so that compilers make vectors of it.
  return bits_float(float_bits(value) & -static_cast<std::int32_t>(x >= -87.0F));
}

// log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1], exact in the leading term near 0. Cephes' logf.
MILLRACE_HOST_DEVICE float log1p_core(float f) {
  const float z = mul_rn(f, f);
  float p = 7.0376836292e-2F;
  p = add_rn(mul_rn(p, f), -1.1514610310e-1F);
  p = add_rn(mul_rn(p, f), 1.1676998740e-1F);
  p = add_rn(mul_rn(p, f), -1.2420140846e-1F);
  p = add_rn(mul_rn(p, f), 1.4249322787e-1F);
  p = add_rn(mul_rn(p, f), -1.6668057665e-1F);
  p = add_rn(mul_rn(p, f), 2.0000714765e-1F);
  p = add_rn(mul_rn(p, f), -2.4999993993e-1F);
  p = add_rn(mul_rn(p, f), 3.3333331174e-1F);
  return add_rn(f, add_rn(mul_rn(mul_rn(p, f), z), mul_rn(-0.5F, z)));
}

// log(x) = log(1 + f) + e * log(2): x = 2^e (1 + f) with f as log1p_core wants it. Positive normal
// x.
struct LogParts {
  float f;
  float e;
};

MILLRACE_HOST_DEVICE LogParts log_parts(float x) {
  constexpr std::int32_t sqrt_half = 0x3f3504f3;
  const std::int32_t bits = float_bits(x);
  const std::int32_t exponent = (bits - sqrt_half) >> 23;
  return {add_rn(bits_float(bits - (exponent << 23)), -1.0F), static_cast<float>(exponent)};
}

MILLRACE_HOST_DEVICE float log_of(LogParts parts) {
  return add_rn(add_rn(log1p_core(parts.f), mul_rn(parts.e, -2.12194440e-4F)),
                mul_rn(parts.e, 0.693359375F));
}

// log(x) for positive normal x; within 2 ulp.
MILLRACE_HOST_DEVICE float log_rn(float x) { return log_of(log_parts(x)); }

// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC11. Four independent 32-bit words for each (key, counter).
struct Philox {
  std::uint32_t word[4];
};

MILLRACE_HOST_DEVICE Philox philox(std::uint64_t key, std::uint32_t c0, std::uint32_t c1,
                                   std::uint32_t c2, std::uint32_t c3) {
  auto k0 = static_cast<std::uint32_t>(key);
  auto k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53U} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57U} * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return {{c0, c1, c2, c3}};
}

// The generator's key for one completion of one request.
MILLRACE_HOST_DEVICE std::int64_t noise_key(std::uint64_t seed, std::int64_t request,
                                            std::int32_t completion) {
  const auto r = static_cast<std::uint64_t>(request);
  const Philox mixed =
      philox(seed, static_cast<std::uint32_t>(r), static_cast<std::uint32_t>(r >> 32),
             static_cast<std::uint32_t>(completion), 0);
  return static_cast<std::int64_t>(mixed.word[0] | (std::uint64_t{mixed.word[1]} << 32));
}

// The words for tokens 4 * quad .. 4 * quad + 3 of one position.
MILLRACE_HOST_DEVICE Philox noise_words(std::int64_t key, std::int32_t position,
                                        std::int32_t quad) {
  return philox(static_cast<std::uint64_t>(key), static_cast<std::uint32_t>(quad),
                static_cast<std::uint32_t>(position), 0, 1);
}

// A standard Gumbel variate -log(-log(1 - u)) with u = (word / 2 + 0.5) / 2^31, never above
// `gumbel_max`. -log(1 - u) keeps full relative precision near u = 0, which is the tail that wins.
constexpr float gumbel_max = 22.25F;

MILLRACE_HOST_DEVICE float gumbel(std::uint32_t word) {
  const auto half = static_cast<std::int32_t>(word >> 1);
  const float u = add_rn(mul_rn(static_cast<float>(half), 0x1p-31F), 0x1p-32F);
  const float rest = add_rn(mul_rn(static_cast<float>(0x7fffffff - half), 0x1p-31F), 0x1p-32F);
  const bool tail = u < 0.25F;
  const LogParts parts = log_parts(rest);
  const float log_rest = log_of({tail ? -u : parts.f, tail ? 0.0F : parts.e});
  return -log_rn(-log_rest);
}

// Probabilities as integers, so that sums are associative: exp(x) in units of 2^-40, x <= 0. One
// unit is 1e-12 of the most likely token; 2^18 tokens of mass 1 sum to 2^58.
constexpr int mass_bits = 40;

MILLRACE_HOST_DEVICE std::int64_t mass(float x) {
  return static_cast<std::int64_t>(mul_rn(exp_rn(x), 0x1p40F));
}

// A (value, token) pair in one integer: the larger value is the larger integer, and of equal values
// the lower token id. `no_candidate` is below every pair.
constexpr std::int64_t no_candidate = -1;

MILLRACE_HOST_DEVICE std::int64_t pack_candidate(float value, std::int32_t token) {
  const auto order = static_cast<std::uint32_t>(monotone_key(value)) ^ 0x80000000U;
  return static_cast<std::int64_t>((std::uint64_t{order} << 31) |
                                   static_cast<std::uint64_t>(0x7fffffff - token));
}

MILLRACE_HOST_DEVICE float candidate_value(std::int64_t candidate) {
  const auto order = static_cast<std::uint32_t>(static_cast<std::uint64_t>(candidate) >> 31);
  return key_float(static_cast<std::int32_t>(order ^ 0x80000000U));
}

// -1 for no_candidate.
MILLRACE_HOST_DEVICE std::int32_t candidate_token(std::int64_t candidate) {
  if (candidate < 0) return -1;
  return 0x7fffffff - static_cast<std::int32_t>(candidate & 0x7fffffff);
}

}  // namespace millrace
