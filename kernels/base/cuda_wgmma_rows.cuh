// Products of a warpgroup for few columns: d [64, n] += a [64, 32 bytes] * b [n, 32 bytes]^T for n
// = 16 to 256, both operands in shared memory as rows of k: 16 elements of f16 or bf16, or 32 of
// e4m3. An accumulator tile is eight columns wide; the register lists are the instruction's
// operands in order.
#pragma once

#include "kernels/base/cuda_wgmma.cuh"

namespace millrace::cuda {

// The four accumulators of tile t, and of as many tiles from t on.
#define MILLRACE_TILE(t) "+f"(d[t][0]), "+f"(d[t][1]), "+f"(d[t][2]), "+f"(d[t][3])
#define MILLRACE_TILES_2(t) MILLRACE_TILE(t), MILLRACE_TILE((t) + 1)
#define MILLRACE_TILES_4(t) MILLRACE_TILES_2(t), MILLRACE_TILES_2((t) + 2)
#define MILLRACE_TILES_8(t) MILLRACE_TILES_4(t), MILLRACE_TILES_4((t) + 4)
#define MILLRACE_TILES_16(t) MILLRACE_TILES_8(t), MILLRACE_TILES_8((t) + 8)
#define MILLRACE_TILES_32(t) MILLRACE_TILES_16(t), MILLRACE_TILES_16((t) + 16)
#define MILLRACE_REGISTERS_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define MILLRACE_REGISTERS_16 MILLRACE_REGISTERS_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define MILLRACE_REGISTERS_32                                           \
  MILLRACE_REGISTERS_16                                                 \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, " \
  "%29, %30, %31"
#define MILLRACE_REGISTERS_64                                                          \
  MILLRACE_REGISTERS_32                                                                \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define MILLRACE_REGISTERS_128                                                             \
  MILLRACE_REGISTERS_64                                                                    \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "     \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "       \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, " \
  "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, "   \
  "%125, %126, %127"
// shape, types, end: parts of the instruction; a_, b_, flag: the placeholders behind the registers.
#define MILLRACE_PRODUCT(shape, types, end, registers, a_, b_, flag, ...)                          \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " flag                                            \
               ", 0;\n"                                                                            \
               "wgmma.mma_async.sync.aligned." shape ".f32." types " {" registers "}, " a_ ", " b_ \
               ", p, 1, 1" end ";\n}\n"                                                            \
               : __VA_ARGS__                                                                       \
               : "l"(a), "l"(b), "r"(accumulate))
#define MILLRACE_PRODUCT_OF_ROWS(n, tiles, registers, a_, b_, flag)                    \
  template <typename T>                                                                \
  __device__ __forceinline__ void multiply_rows(float(&d)[tiles][4], std::uint64_t a,  \
                                                std::uint64_t b, int accumulate) {     \
    if constexpr (std::is_same_v<T, Fp8>) {                                            \
      MILLRACE_PRODUCT("m64n" n "k32", "e4m3.e4m3", "", registers, a_, b_, flag,       \
                       MILLRACE_TILES_##tiles(0));                                     \
    } else if constexpr (std::is_same_v<T, __half>) {                                  \
      MILLRACE_PRODUCT("m64n" n "k16", "f16.f16", ", 0, 0", registers, a_, b_, flag,   \
                       MILLRACE_TILES_##tiles(0));                                     \
    } else {                                                                           \
      MILLRACE_PRODUCT("m64n" n "k16", "bf16.bf16", ", 0, 0", registers, a_, b_, flag, \
                       MILLRACE_TILES_##tiles(0));                                     \
    }                                                                                  \
  }

MILLRACE_PRODUCT_OF_ROWS("16", 2, MILLRACE_REGISTERS_8, "%8", "%9", "%10")
MILLRACE_PRODUCT_OF_ROWS("32", 4, MILLRACE_REGISTERS_16, "%16", "%17", "%18")
MILLRACE_PRODUCT_OF_ROWS("64", 8, MILLRACE_REGISTERS_32, "%32", "%33", "%34")
MILLRACE_PRODUCT_OF_ROWS("128", 16, MILLRACE_REGISTERS_64, "%64", "%65", "%66")
MILLRACE_PRODUCT_OF_ROWS("256", 32, MILLRACE_REGISTERS_128, "%128", "%129", "%130")

#undef MILLRACE_TILE
#undef MILLRACE_TILES_2
#undef MILLRACE_TILES_4
#undef MILLRACE_TILES_8
#undef MILLRACE_TILES_16
#undef MILLRACE_TILES_32
#undef MILLRACE_REGISTERS_8
#undef MILLRACE_REGISTERS_16
#undef MILLRACE_REGISTERS_32
#undef MILLRACE_REGISTERS_64
#undef MILLRACE_REGISTERS_128
#undef MILLRACE_PRODUCT
#undef MILLRACE_PRODUCT_OF_ROWS

}  // namespace millrace::cuda
