// What kernels share: device element types for dtypes, 16-byte packs of them, and sums over a
// block.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include <cstdint>
#include <type_traits>

#include "kernels/base/backend.hpp"
#include "kernels/base/cuda_check.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace::cuda {

using Fp8 = __nv_fp8_e4m3;

constexpr int warp_size = 32;
constexpr int pack_bytes = 16;  // the widest access of one thread

template <typename T>
__host__ __device__ constexpr int pack_width() {
  return pack_bytes / static_cast<int>(sizeof(T));
}

// N elements that are loaded and stored at once.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

template <typename T>
__device__ __forceinline__ float to_float(T value) {
  return static_cast<float>(value);
}

// Rounds to nearest even; fp8 saturates at its largest value.
template <typename T>
__device__ __forceinline__ T from_float(float value) {
  return T(value);
}

template <typename T, int N>
__device__ __forceinline__ Pack<T, N> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}

template <typename T, int N>
__device__ __forceinline__ void store_pack(T* to, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

template <int Width = warp_size>
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int lanes = Width / 2; lanes > 0; lanes /= 2) {
    value += __shfl_xor_sync(0xffffffffU, value, lanes);
  }
  return value;
}

// Inclusive sums over the lanes.
__device__ __forceinline__ int warp_sum_through(int value) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
#pragma unroll
  for (int step = 1; step < warp_size; step *= 2) {
    const int before = __shfl_up_sync(0xffffffffU, value, step);
    if (lane >= step) value += before;
  }
  return value;
}

// The sum over the block, in every thread. `scratch` holds 32 floats; may be called again with it.
__device__ __forceinline__ float block_sum(float value, float* scratch) {
  const int warps = (static_cast<int>(blockDim.x) + warp_size - 1) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  value = warp_sum(value);
  if (warps == 1) return value;
  __syncthreads();
  if (lane == 0) scratch[threadIdx.x / warp_size] = value;
  __syncthreads();
  return warp_sum(lane < warps ? scratch[lane] : 0.0F);
}

// A matrix whose rows may be strided, as kernels take it.
template <typename T>
struct Rows {
  T* data;
  std::int64_t stride;

  __device__ T* row(std::int64_t index) const { return data + index * stride; }
};

template <typename T>
Rows<T> rows_of(const TensorView& view) {
  return {static_cast<T*>(view.data()), view.rank() > 1 ? view.stride(0) : 0};
}

// True when every row of the matrix starts on a 16-byte boundary.
inline bool rows_are_packed(const TensorView& view) {
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(view.data());
  const std::size_t stride =
      view.rank() > 1 ? static_cast<std::size_t>(view.stride(0)) * size_of(view.dtype()) : 0;
  return address % pack_bytes == 0 && stride % pack_bytes == 0;
}

__host__ __device__ constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// Calls body with a value of the element type: float, __half or __nv_bfloat16.
template <typename Body>
void with_float_type(const char* op, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return body(float{});
    case DType::f16:
      return body(__half{});
    case DType::bf16:
      return body(__nv_bfloat16{});
    default:
      throw_no_kernel(op, dtype);
  }
}

// As above, for what a KV cache may hold.
template <typename Body>
void with_cache_type(const char* op, DType dtype, Body&& body) {
  if (dtype == DType::fp8_e4m3) return body(Fp8{});
  with_float_type(op, dtype, static_cast<Body&&>(body));
}

}  // namespace millrace::cuda
