// Which vector instructions this process uses. The library is built for the baseline of its
// architecture; the files kernels/simd/*_avx2.cpp and *_avx512.cpp are compiled with their own
// flags and entered only where the processor has those instructions, so one binary runs anywhere.
#pragma once

#include <cstdint>
#include <string_view>

namespace millrace::cpu {

// avx2: AVX2, FMA, F16C. avx512: also AVX-512 F, BW, DQ, VL. portable: the architecture's baseline.
enum class Isa : std::uint8_t { portable, avx2, avx512 };

std::string_view name(Isa isa);

// The best this processor and operating system support.
Isa best_isa();

// The one in use: best_isa(), unless a test or benchmark chose another. A result's bits can differ
// between instruction sets (fused against separate rounding), never within one.
Isa active_isa();

// For tests and benchmarks. Throws UserError when the processor does not have it.
void use_isa(Isa isa);

}  // namespace millrace::cpu
