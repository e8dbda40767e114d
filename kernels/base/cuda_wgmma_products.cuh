// Products of a warpgroup, d [64, n] = (accumulate ? d : 0) + a [64, 16] * b [16, n] with sums in
// f32, in the shapes that kernels use. Accumulators have the layout of mma.m16n8k16, warp w of the
// group holding rows 16 w on; d has n / 8 tiles of eight columns. Asynchronous: see fence_products,
// commit_products and wait_products in cuda_wgmma.cuh. PTX ISA, "wgmma.mma_async".
#pragma once

#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace millrace::cuda {

// Accumulators of n columns as operands %0 .. %(n / 2 - 1), and the variables they name.
#define MILLRACE_SUMS_64                                                 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define MILLRACE_SUMS_80 \
  MILLRACE_SUMS_64       \
  ", %32, %33, %34, %35, %36, %37, %38, %39"
#define MILLRACE_SUMS_96 \
  MILLRACE_SUMS_80       \
  ", %40, %41, %42, %43, %44, %45, %46, %47"
#define MILLRACE_SUMS_128 \
  MILLRACE_SUMS_96        \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define MILLRACE_SUMS_256                                                                        \
  MILLRACE_SUMS_128                                                                              \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"             \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"             \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, " \
  "%127"
#define MILLRACE_TILE(t) "+f"(d[t][0]), "+f"(d[t][1]), "+f"(d[t][2]), "+f"(d[t][3])
#define MILLRACE_TILES_2(t) MILLRACE_TILE(t), MILLRACE_TILE(t + 1)
#define MILLRACE_TILES_4(t) MILLRACE_TILES_2(t), MILLRACE_TILES_2(t + 2)
#define MILLRACE_TILES_8(t) MILLRACE_TILES_4(t), MILLRACE_TILES_4(t + 4)
#define MILLRACE_OUT_64 MILLRACE_TILES_8(0)
#define MILLRACE_OUT_80 MILLRACE_OUT_64, MILLRACE_TILES_2(8)
#define MILLRACE_OUT_96 MILLRACE_OUT_80, MILLRACE_TILES_2(10)
#define MILLRACE_OUT_128 MILLRACE_OUT_96, MILLRACE_TILES_4(12)
#define MILLRACE_OUT_256 MILLRACE_OUT_128, MILLRACE_TILES_8(16), MILLRACE_TILES_8(24)

// One instruction: `take` names its operands a and b, `flag` the operand that tells whether to
// accumulate, `order` how b lies in shared memory, and what follows are the inputs.
#define MILLRACE_PRODUCT(n, type, take, flag, order, ...)                      \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " flag                        \
               ", 0;\n"                                                        \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type \
               " {" MILLRACE_SUMS_##n "}, " take ", p, 1, 1, " order ";\n}\n"  \
               : MILLRACE_OUT_##n                                              \
               : __VA_ARGS__)

// a and b in shared memory, both as rows of k: b is given as [n, 16].
#define MILLRACE_SHARED_PRODUCT(n, a_operand, b_operand, flag)                            \
  template <typename T>                                                                   \
  __device__ __forceinline__ void multiply_async(float(&d)[n / 8][4], std::uint64_t a,    \
                                                 std::uint64_t b, int accumulate) {       \
    if constexpr (std::is_same_v<T, __half>) {                                            \
      MILLRACE_PRODUCT(n, "f16", a_operand ", " b_operand, flag, "0, 0", "l"(a), "l"(b),  \
                       "r"(accumulate));                                                  \
    } else {                                                                              \
      MILLRACE_PRODUCT(n, "bf16", a_operand ", " b_operand, flag, "0, 0", "l"(a), "l"(b), \
                       "r"(accumulate));                                                  \
    }                                                                                     \
  }

// a in registers, b in shared memory as rows of n.
#define MILLRACE_REGISTER_PRODUCT(n, a_operands, b_operand, flag)                                  \
  template <typename T>                                                                            \
  __device__ __forceinline__ void multiply_async(float(&d)[n / 8][4], const std::uint32_t(&a)[4],  \
                                                 std::uint64_t b, int accumulate) {                \
    if constexpr (std::is_same_v<T, __half>) {                                                     \
      MILLRACE_PRODUCT(n, "f16", "{" a_operands "}, " b_operand, flag, "1", "r"(a[0]), "r"(a[1]),  \
                       "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));                             \
    } else {                                                                                       \
      MILLRACE_PRODUCT(n, "bf16", "{" a_operands "}, " b_operand, flag, "1", "r"(a[0]), "r"(a[1]), \
                       "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));                             \
    }                                                                                              \
  }

MILLRACE_SHARED_PRODUCT(64, "%32", "%33", "%34")
MILLRACE_SHARED_PRODUCT(128, "%64", "%65", "%66")
MILLRACE_REGISTER_PRODUCT(64, "%32, %33, %34, %35", "%36", "%37")
MILLRACE_REGISTER_PRODUCT(80, "%40, %41, %42, %43", "%44", "%45")
MILLRACE_REGISTER_PRODUCT(96, "%48, %49, %50, %51", "%52", "%53")
MILLRACE_REGISTER_PRODUCT(128, "%64, %65, %66, %67", "%68", "%69")
MILLRACE_REGISTER_PRODUCT(256, "%128, %129, %130, %131", "%132", "%133")

#undef MILLRACE_REGISTER_PRODUCT
#undef MILLRACE_SHARED_PRODUCT
#undef MILLRACE_PRODUCT
#undef MILLRACE_OUT_256
#undef MILLRACE_OUT_128
#undef MILLRACE_OUT_96
#undef MILLRACE_OUT_80
#undef MILLRACE_OUT_64
#undef MILLRACE_TILES_8
#undef MILLRACE_TILES_4
#undef MILLRACE_TILES_2
#undef MILLRACE_TILE
#undef MILLRACE_SUMS_256
#undef MILLRACE_SUMS_128
#undef MILLRACE_SUMS_96
#undef MILLRACE_SUMS_80
#undef MILLRACE_SUMS_64

}  // namespace millrace::cuda
