// Writing a row of floats as fp8 with scales, from a kernel that has one block on the row.
#pragma once

#include "kernels/base/cuda_cluster.cuh"
#include "kernels/base/cuda_launch.cuh"
#include "kernels/base/cuda_types.cuh"
#include "kernels/base/cuda_words.cuh"
#include "kernels/linear_input.hpp"

namespace millrace::cuda {

// A quantized LinearInput as kernels take it.
struct QuantizedRows {
  Rows<Fp8> values;
  float* scales;
  std::int64_t block_stride;  // between scales of one row's blocks; 0: one scale a row
  float fixed_scale;          // 0: of the data

  __device__ float scale(float largest) const {
    return fixed_scale != 0 ? fixed_scale : fp8_scale(largest);
  }
};

inline QuantizedRows quantized_rows(const LinearInput& rows) {
  return {rows_of<Fp8>(rows.values), static_cast<float*>(rows.scales.data()),
          rows.scaling() == Fp8Scaling::blocks ? rows.scales.stride(0) : 0, rows.fixed_scale};
}

// True when every row can be written in packs of as many elements as 16 bytes of a float type hold.
inline bool takes_packs(const LinearInput& rows) {
  return reinterpret_cast<std::uintptr_t>(rows.values.data()) % pack_bytes == 0 &&
         rows.values.stride(0) % pack_bytes == 0;
}

// The larger; NaN when either is.
__device__ __forceinline__ float larger(float a, float b) {
#if __CUDA_ARCH__ >= 800
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
#else
  return a > b || isnan(a) ? a : b;
#endif
}

// The largest over `width` neighbouring lanes.
template <int width>
__device__ __forceinline__ float lanes_largest(float value) {
#pragma unroll
  for (int lanes = width / 2; lanes > 0; lanes /= 2) {
    value = larger(value, __shfl_xor_sync(0xffffffffU, value, lanes));
  }
  return value;
}

// The largest over the warp, of values that are not negative.
__device__ __forceinline__ float warp_largest(float value) {
#if __CUDA_ARCH__ >= 800
  // Their bits are in the same order, those of NaN above all.
  return __uint_as_float(__reduce_max_sync(0xffffffffU, __float_as_uint(value)));
#else
  return lanes_largest<warp_size>(value);
#endif
}

// The largest over the block, in every thread; see block_sum().
__device__ __forceinline__ float block_largest(float value, float* scratch) {
  const int warps = (static_cast<int>(blockDim.x) + warp_size - 1) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  value = warp_largest(value);
  if (warps == 1) return value;
  __syncthreads();
  if (lane == 0) scratch[threadIdx.x / warp_size] = value;
  __syncthreads();
  return warp_largest(lane < warps ? scratch[lane] : 0.0F);
}

template <int width>
__device__ __forceinline__ void store_fp8(Fp8* to, const float (&y)[width], float inverse) {
  static_assert(width % 2 == 0);
  Pack<__nv_fp8x2_storage_t, width / 2> pack;  // one instruction makes two
#pragma unroll
  for (int i = 0; i < width / 2; ++i) {
    pack.values[i] = __nv_cvt_float2_to_fp8x2({y[2 * i] * inverse, y[2 * i + 1] * inverse},
                                              __NV_SATFINITE, __NV_E4M3);
  }
  store_pack(reinterpret_cast<__nv_fp8x2_storage_t*>(to), pack);
}

template <int width>
__device__ __forceinline__ float largest_of(const float (&y)[width]) {
  float largest = 0;
#pragma unroll
  for (int i = 0; i < width; ++i) largest = larger(largest, fabsf(y[i]));
  return largest;
}

// The row lies in registers: pack p of a thread is pack first + p * blockDim.x + threadIdx.x of it,
// and those from `end` on are zero. blockDim.x is a multiple of 32. largest_in_row(largest) is the
// largest over all threads that have the row.
template <int packs, int width, typename LargestInRow>
__device__ __forceinline__ void quantize_held(const QuantizedRows& out, std::int64_t row, int first,
                                              int end, const float (&y)[packs][width],
                                              LargestInRow&& largest_in_row) {
  Fp8* const to = out.values.row(row);
  first += static_cast<int>(threadIdx.x);
  if (out.block_stride == 0) {
    float largest = 0;
#pragma unroll
    for (int p = 0; p < packs; ++p) largest = larger(largest, largest_of(y[p]));
    const float scale = out.fixed_scale != 0 ? out.fixed_scale : fp8_scale(largest_in_row(largest));
    const float inverse = 1.0F / scale;
    if (first == 0) out.scales[row] = scale;
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const int index = first + p * static_cast<int>(blockDim.x);
      if (index < end) store_fp8(to + index * width, y[p], inverse);
    }
    return;
  }
  // Neighbouring lanes hold a scaled block, and blocks do not straddle warps.
  constexpr int lanes = static_cast<int>(scale_block) / width;
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = first + p * static_cast<int>(blockDim.x);
    const float scale = out.scale(lanes_largest<lanes>(largest_of(y[p])));
    if (index >= end) continue;
    store_fp8(to + index * width, y[p], 1.0F / scale);
    if (index % lanes == 0) out.scales[index / lanes * out.block_stride + row] = scale;
  }
}

// The row lies in the block's registers.
template <int packs, int width>
__device__ void quantize_row(const QuantizedRows& out, std::int64_t row, int columns,
                             const float (&y)[packs][width], float* scratch) {
  quantize_held(out, row, 0, columns / width, y,
                [&](float largest) { return block_largest(largest, scratch); });
}

// Any width and alignment: value(i) is element i of the row, asked for twice.
template <typename Value>
__device__ void quantize_row_from(const QuantizedRows& out, std::int64_t row, int columns,
                                  Value&& value, float* scratch) {
  Fp8* const to = out.values.row(row);
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  if (out.block_stride == 0) {
    float largest = 0;
    for (int i = thread; i < columns; i += threads) largest = larger(largest, fabsf(value(i)));
    const float scale = out.scale(block_largest(largest, scratch));
    const float inverse = 1.0F / scale;
    if (thread == 0) out.scales[row] = scale;
    for (int i = thread; i < columns; i += threads) to[i] = from_float<Fp8>(value(i) * inverse);
    return;
  }
  const int lane = thread % warp_size;
  constexpr int width = static_cast<int>(scale_block);
  for (int block = thread / warp_size; block * width < columns; block += threads / warp_size) {
    const int end = min(columns, (block + 1) * width);
    float largest = 0;
    for (int i = block * width + lane; i < end; i += warp_size) {
      largest = larger(largest, fabsf(value(i)));
    }
    const float scale = out.scale(warp_largest(largest));
    const float inverse = 1.0F / scale;
    if (lane == 0) out.scales[block * out.block_stride + row] = scale;
    for (int i = block * width + lane; i < end; i += warp_size) {
      to[i] = from_float<Fp8>(value(i) * inverse);
    }
  }
}

constexpr int max_quantize_threads = 512;

// Functor: load<N>(row, column) reads what N elements of a row are made of, values(loaded, float
// (&)[N]) makes them. Here: a thread's packs from `first` to `end`, all read before one is made.
template <int packs, int width, typename Functor>
__device__ __forceinline__ void load_values(const Functor& functor, std::int64_t row, int first,
                                            int end, float (&y)[packs][width]) {
  decltype(functor.template load<width>(row, 0)) loaded[packs];
  first += static_cast<int>(threadIdx.x);
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = first + p * static_cast<int>(blockDim.x);
    if (index < end) loaded[p] = functor.template load<width>(row, index * width);
  }
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = first + p * static_cast<int>(blockDim.x);
    if (index < end) functor.values(loaded[p], y[p]);
  }
}

template <int width, int packs, typename Functor>
__global__ void __launch_bounds__(max_quantize_threads, packs > 4 ? 1 : 2)
    quantize_in_registers(Functor functor, QuantizedRows out, int columns) {
  allow_next();
  wait_for_previous();
  __shared__ float scratch[warp_size];
  const std::int64_t row = blockIdx.x;
  float y[packs][width] = {};
  load_values(functor, row, 0, columns / width, y);
  quantize_row(out, row, columns, y, scratch);
}

// Each block of a cluster has an equal part of the row.
template <int width, int packs, typename Functor>
__global__ void __launch_bounds__(row_cluster_threads)
    quantize_in_cluster(Functor functor, QuantizedRows out, int columns) {
  __shared__ ClusterLargest::Shared shared;
  allow_next();
  ClusterLargest largest_in_row(shared);
  wait_for_previous();
  const std::int64_t row = blockIdx.x / row_cluster;
  const int part_packs = columns / width / row_cluster;
  const int first = static_cast<int>(blockIdx.x % row_cluster) * part_packs;
  const int end = first + part_packs;
  float y[packs][width] = {};
  load_values(functor, row, first, end, y);
  quantize_held(out, row, first, end, y, largest_in_row);
  largest_in_row.end();
}

template <typename Functor>
__global__ void quantize_from_memory(Functor functor, QuantizedRows out, int columns) {
  allow_next();
  wait_for_previous();
  __shared__ float scratch[warp_size];
  const auto value = [&](int i) {
    float y[1];
    functor.values(functor.template load<1>(blockIdx.x, i), y);
    return y[0];
  };
  quantize_row_from(out, blockIdx.x, columns, value, scratch);
}

// width: elements of one pack of what the functor reads. `packed`: its rows are 16-byte aligned.
template <int width, typename Functor>
void quantize_map(const char* op, const Functor& functor, const LinearInput& out, bool packed,
                  Stream stream) {
  constexpr int most_packs = 8;  // of a thread
  const std::int64_t rows = out.size(0);
  const auto columns = static_cast<int>(out.size(1));
  if (rows == 0 || columns == 0) return;
  const auto grid = static_cast<unsigned>(rows);
  const QuantizedRows to = quantized_rows(out);
  const int pack_count = columns / width;
  if (!packed || !takes_packs(out) || columns % width != 0 ||
      pack_count > most_packs * max_quantize_threads) {
    return launch_early(op, quantize_from_memory<Functor>, {grid, 256}, stream, functor, to,
                        columns);
  }
  const auto threads_for = [](int count, int packs) {
    return static_cast<unsigned>(ceil_div(ceil_div(count, packs), warp_size) * warp_size);
  };
  constexpr int few = 512;  // packs that one block has as soon as a cluster
  const int part = pack_count / row_cluster;
  if (pack_count > few && columns % (row_cluster * static_cast<int>(scale_block)) == 0 &&
      part <= 2 * row_cluster_threads && has_clusters(stream.device)) {
    return launch_clusters_early(op, quantize_in_cluster<width, 2, Functor>,
                                 {grid * row_cluster, threads_for(part, 2)}, stream, functor, to,
                                 columns);
  }
  const int packs = pack_count <= few ? 2 : pack_count <= 4 * few ? 4 : most_packs;
  const auto kernel = packs == 2   ? quantize_in_registers<width, 2, Functor>
                      : packs == 4 ? quantize_in_registers<width, 4, Functor>
                                   : quantize_in_registers<width, most_packs, Functor>;
  launch_early(op, kernel, {grid, threads_for(pack_count, packs)}, stream, functor, to, columns);
}

}  // namespace millrace::cuda
