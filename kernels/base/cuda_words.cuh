// Elements of a row in registers of 32 bits, as they lie in memory: a pack of 16-bit elements that
// is held as such for long is kept by the compiler in a register for each element.
#pragma once

#include "kernels/base/cuda_types.cuh"

namespace millrace::cuda {

// N elements of T, a multiple of 4 bytes, at most 16.
template <typename T, int N>
struct alignas(sizeof(T) * N) PackWords {
  static constexpr int count = static_cast<int>(sizeof(T)) * N / 4;
  std::uint32_t words[count];
};

template <typename T, int N>
__device__ __forceinline__ PackWords<T, N> load_words(const T* from) {
  return *reinterpret_cast<const PackWords<T, N>*>(from);
}

template <typename T, int N>
__device__ __forceinline__ void store_words(T* to, const PackWords<T, N>& words) {
  *reinterpret_cast<PackWords<T, N>*>(to) = words;
}

template <typename T, int N>
__device__ __forceinline__ void widen(const PackWords<T, N>& from, float (&to)[N]) {
#pragma unroll
  for (int i = 0; i < PackWords<T, N>::count; ++i) {
    const std::uint32_t word = from.words[i];
    if constexpr (std::is_same_v<T, float>) {
      to[i] = __uint_as_float(word);
    } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
      to[2 * i] = __uint_as_float(word << 16);
      to[2 * i + 1] = __uint_as_float(word & 0xffff0000U);
    } else {
      const float2 two = __half22float2(reinterpret_cast<const __half2&>(word));
      to[2 * i] = two.x;
      to[2 * i + 1] = two.y;
    }
  }
}

// Rounds to nearest even.
template <typename T, int N>
__device__ __forceinline__ PackWords<T, N> narrow(const float (&from)[N]) {
  PackWords<T, N> to;
#pragma unroll
  for (int i = 0; i < PackWords<T, N>::count; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      to.words[i] = __float_as_uint(from[i]);
    } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
      const __nv_bfloat162 two = __floats2bfloat162_rn(from[2 * i], from[2 * i + 1]);
      to.words[i] = reinterpret_cast<const std::uint32_t&>(two);
    } else {
      const __half2 two = __floats2half2_rn(from[2 * i], from[2 * i + 1]);
      to.words[i] = reinterpret_cast<const std::uint32_t&>(two);
    }
  }
  return to;
}

// The same for any N: words where rows are read in packs, else the one element.
template <typename T, int N>
using Loaded = std::conditional_t<N == 1, Pack<T, 1>, PackWords<T, N>>;

template <typename T, int N>
__device__ __forceinline__ Loaded<T, N> load(const T* from) {
  return *reinterpret_cast<const Loaded<T, N>*>(from);
}

template <typename T>
__device__ __forceinline__ void widen(const Pack<T, 1>& from, float (&to)[1]) {
  to[0] = to_float(from.values[0]);
}

template <typename T, int N>
__device__ __forceinline__ void store_narrowed(T* to, const float (&from)[N]) {
  if constexpr (N == 1) {
    *to = from_float<T>(from[0]);
  } else {
    store_words(to, narrow<T>(from));
  }
}

}  // namespace millrace::cuda
