// Adding the ranks' parts of a row that a block holds in its registers: in rank order, so that the
// bits are the same on all ranks and by every way.
#pragma once

#include <type_traits>

#include "comm/peer_layout_cuda.cuh"
#include "kernels/base/cuda_types.cuh"

namespace millrace::cuda {

constexpr int peer_packs = 2;  // of a row, in one thread

struct Sum {
  template <typename T>
  static __device__ __forceinline__ T of(T a, T b) {
    return a + b;
  }
};
struct Max {
  template <typename T>
  static __device__ __forceinline__ T of(T a, T b) {
    return a > b ? a : b;
  }
  static __device__ __forceinline__ float of(float a, float b) { return fmaxf(a, b); }
};

template <typename T>
constexpr bool is_half = std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>;

// Adds packs of one rank after the other: half precision in f32, rounded once at the end.
template <typename T, typename Op>
class Accumulator {
 public:
  using Wide = std::conditional_t<is_half<T>, float, T>;
  static constexpr int width = pack_width<T>();

  __device__ __forceinline__ void add(const uint4& bits, bool is_first) {
    const auto pack = *reinterpret_cast<const Pack<T, width>*>(&bits);
#pragma unroll
    for (int i = 0; i < width; ++i) {
      const auto value = static_cast<Wide>(pack.values[i]);
      values_[i] = is_first ? value : Op::of(values_[i], value);
    }
  }
  __device__ __forceinline__ Pack<T, width> result() const {
    Pack<T, width> pack;
#pragma unroll
    for (int i = 0; i < width; ++i) pack.values[i] = T(values_[i]);
    return pack;
  }

 private:
  Wide values_[width];
};

// A row in the registers of a block: thread t holds packs t and t + blockDim.x of `count`.
template <typename T>
struct HeldRow {
  static constexpr int width = pack_width<T>();

  Pack<T, width> packs[peer_packs];
  int count;

  static __device__ __forceinline__ int index(int p) {
    return p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
  }
  static __device__ __forceinline__ std::size_t offset(int p) {
    return static_cast<std::size_t>(index(p)) * pack_bytes;
  }
  __device__ __forceinline__ bool has(int p) const { return index(p) < count; }
  __device__ __forceinline__ uint4 bits(int p) const {
    return *reinterpret_cast<const uint4*>(&packs[p]);
  }

  __device__ __forceinline__ void load(const T* row) {
#pragma unroll
    for (int p = 0; p < peer_packs; ++p) {
      if (has(p)) packs[p] = load_pack<T, width>(row + index(p) * width);
    }
  }
  __device__ __forceinline__ void store(std::byte* row) const {
#pragma unroll
    for (int p = 0; p < peer_packs; ++p) {
      if (has(p)) *reinterpret_cast<uint4*>(row + offset(p)) = bits(p);
    }
  }
  // What another GPU wrote, so not by way of the first-level cache.
  __device__ __forceinline__ void load_written(const std::byte* row) {
#pragma unroll
    for (int p = 0; p < peer_packs; ++p) {
      if (!has(p)) continue;
      const uint4 read = __ldcg(reinterpret_cast<const uint4*>(row + offset(p)));
      packs[p] = *reinterpret_cast<const Pack<T, width>*>(&read);
    }
  }
  // Adds the parts of the other ranks, which lie `stride` apart in the own memory.
  template <int ranks, typename Op>
  __device__ __forceinline__ void add_parts(const std::byte* row, std::size_t stride,
                                            const Peers& peers) {
#pragma unroll
    for (int p = 0; p < peer_packs; ++p) {
      if (!has(p)) continue;
      uint4 theirs[ranks];
#pragma unroll
      for (int r = 0; r < ranks; ++r) {
        if (r >= peers.size || r == peers.rank) continue;
        theirs[r] = __ldcg(reinterpret_cast<const uint4*>(
            row + static_cast<std::size_t>(part_of(r, peers.rank)) * stride + offset(p)));
      }
      Accumulator<T, Op> sum;
#pragma unroll
      for (int r = 0; r < ranks; ++r) {
        if (r >= peers.size) break;
        sum.add(r == peers.rank ? bits(p) : theirs[r], r == 0);
      }
      packs[p] = sum.result();
    }
  }
};

}  // namespace millrace::cuda
