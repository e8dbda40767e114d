#include "kernels/simd/isa.hpp"

#include "kernels/base/error.hpp"

namespace millrace::cpu {
namespace {

Isa& chosen() {
  static Isa isa = best_isa();
  return isa;
}

}  // namespace

std::string_view name(Isa isa) {
  switch (isa) {
    case Isa::portable:
      return "portable";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
  }
  return "unknown";
}

Isa best_isa() {
#ifdef __x86_64__
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx2 && avx512) return Isa::avx512;
  if (avx2) return Isa::avx2;
#endif
  return Isa::portable;
}

Isa active_isa() { return chosen(); }

void use_isa(Isa isa) {
  if (isa > best_isa()) {
    throw UserError("this processor has {} instructions, not {}", name(best_isa()), name(isa));
  }
  chosen() = isa;
}

}  // namespace millrace::cpu
