// Hopper's building blocks: products of a warpgroup (four warps) that read shared memory
// themselves, the tensor copy engine, and the barriers in shared memory on which both report. They
// need sm_90a.
//
// Tiles in shared memory are columns of 64 16-bit elements: rows of 128 bytes, 16-byte units
// swizzled by the row (unit ^= row % 8), the layout that the copy engine writes with
// CU_TENSOR_MAP_SWIZZLE_128B and the products read. A tile starts at a multiple of 1024 bytes. PTX
// ISA, "Asynchronous warpgroup level matrix instructions".
#pragma once

#include <cuda.h>

#include "kernels/base/cuda_mma.cuh"
#include "kernels/base/cuda_wgmma_products.cuh"

namespace millrace::cuda {

constexpr int warpgroup_size = 128;
constexpr int swizzled_row_bytes = 128;

// How a product finds its operand: start, stride between 8-row groups (always 1024 bytes here),
// and, for operands whose rows run along n (the transposed ones), the distance to the next 64
// columns.
__device__ __forceinline__ std::uint64_t matrix_descriptor(std::uint32_t address,
                                                           std::uint32_t next_columns_bytes = 16) {
  constexpr std::uint64_t swizzle_128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t group_stride = std::uint64_t{1024 >> 4} << 32;
  return swizzle_128 | group_stride | (static_cast<std::uint64_t>(next_columns_bytes >> 4) << 16) |
         ((address & 0x3ffffU) >> 4);
}

// Before the first product, and after registers that a product takes were written.
__device__ __forceinline__ void fence_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most `groups` committed groups of products are unfinished.
template <int groups>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups) : "memory");
}

// Keeps the compiler from moving uses of accumulators over a wait.
template <int tiles>
__device__ __forceinline__ void pin(float (&d)[tiles][4]) {
#pragma unroll
  for (int t = 0; t < tiles; ++t) {
#pragma unroll
    for (int e = 0; e < 4; ++e) asm volatile("" : "+f"(d[t][e])::"memory");
  }
}

// Makes shared memory that was written by ordinary stores visible to products and the copy engine.
__device__ __forceinline__ void fence_shared_writes() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// True in one lane of the warp, all of which call it together. Of such a lane the compiler knows
// that it is alone, and makes one instruction of a copy where any lane could ask for it.
__device__ __forceinline__ bool elect_lane() {
  std::uint32_t elected;
  asm volatile(
      "{\n.reg .pred is_elected;\n"
      "elect.sync _|is_elected, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, is_elected;\n}\n"
      : "=r"(elected));
  return elected != 0;
}

__device__ __forceinline__ void barrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// After the barriers' initialisation, by who did it.
__device__ __forceinline__ void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives, and makes the phase wait for `bytes` of copies.
__device__ __forceinline__ void barrier_expect(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// Waits until the phase of the given parity has ended.
__device__ __forceinline__ void barrier_wait(std::uint32_t barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "wait_%=:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra wait_%=;\n}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// Copies one box of a 4-dimensional tensor; its bytes count towards the barrier.
__device__ __forceinline__ void copy_box(std::uint32_t to, const CUtensorMap& map,
                                         std::uint32_t barrier, int x0, int x1, int x2, int x3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(x0), "r"(x1), "r"(x2), "r"(x3)
      : "memory");
}

// The same of a 3-dimensional tensor.
__device__ __forceinline__ void copy_box(std::uint32_t to, const CUtensorMap& map,
                                         std::uint32_t barrier, int x0, int x1, int x2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(x0), "r"(x1), "r"(x2)
      : "memory");
}

// copy_box() of 4 dimensions of what nobody will read again soon (evict_first_policy()).
__device__ __forceinline__ void copy_box_once(std::uint32_t to, const CUtensorMap& map,
                                              std::uint32_t barrier, int x0, int x1, int x2, int x3,
                                              std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(x0), "r"(x1), "r"(x2), "r"(x3), "l"(policy)
      : "memory");
}

// Named barriers: `threads` of the block meet at `id` (1..15).
__device__ __forceinline__ void meet(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void meet_without_waiting(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace millrace::cuda
