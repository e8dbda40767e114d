// Writing a row of floats as fp8 with scales, from a kernel that has one block on the row.
#pragma once

#include "kernels/base/cuda_launch.cuh"
#include "kernels/base/cuda_types.cuh"
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
__device__ __forceinline__ float larger(float a, float b) { return a > b || isnan(a) ? a : b; }

template <int Width = warp_size>
__device__ __forceinline__ float warp_largest(float value) {
#pragma unroll
  for (int lanes = Width / 2; lanes > 0; lanes /= 2) {
    value = larger(value, __shfl_xor_sync(0xffffffffU, value, lanes));
  }
  return value;
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
  Pack<Fp8, width> pack;
#pragma unroll
  for (int i = 0; i < width; ++i) pack.values[i] = from_float<Fp8>(y[i] * inverse);
  store_pack(to, pack);
}

template <int width>
__device__ __forceinline__ float largest_of(const float (&y)[width]) {
  float largest = 0;
#pragma unroll
  for (int i = 0; i < width; ++i) largest = larger(largest, fabsf(y[i]));
  return largest;
}

// The row lies in the block's registers: pack p of a thread holds elements (p * blockDim.x +
// threadIdx.x) * width and on; packs beyond the row are zero. blockDim.x is a multiple of 32.
template <int packs, int width>
__device__ void quantize_row(const QuantizedRows& out, std::int64_t row, int columns,
                             const float (&y)[packs][width], float* scratch) {
  const int pack_count = columns / width;
  Fp8* const to = out.values.row(row);
  if (out.block_stride == 0) {
    float largest = 0;
#pragma unroll
    for (int p = 0; p < packs; ++p) largest = larger(largest, largest_of(y[p]));
    const float scale =
        out.fixed_scale != 0 ? out.fixed_scale : fp8_scale(block_largest(largest, scratch));
    const float inverse = 1.0F / scale;
    if (threadIdx.x == 0) out.scales[row] = scale;
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
      if (index < pack_count) store_fp8(to + index * width, y[p], inverse);
    }
    return;
  }
  // Neighbouring lanes hold a scaled block, and blocks do not straddle warps.
  constexpr int lanes = static_cast<int>(scale_block) / width;
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    const float scale = out.scale(warp_largest<lanes>(largest_of(y[p])));
    if (index >= pack_count) continue;
    store_fp8(to + index * width, y[p], 1.0F / scale);
    if (index % lanes == 0) out.scales[index / lanes * out.block_stride + row] = scale;
  }
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

// Functor: template <int N> __device__ void values(std::int64_t row, int column, float (&y)[N])
// const gives N elements of a row.
template <int width, int packs, typename Functor>
__global__ void __launch_bounds__(packs > 2 ? 512 : 1024)
    quantize_in_registers(Functor functor, QuantizedRows out, int columns) {
  allow_next();
  wait_for_previous();
  __shared__ float scratch[warp_size];
  const std::int64_t row = blockIdx.x;
  float y[packs][width] = {};
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    const int index = p * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
    if (index * width < columns) functor.template values<width>(row, index * width, y[p]);
  }
  quantize_row(out, row, columns, y, scratch);
}

template <typename Functor>
__global__ void quantize_from_memory(Functor functor, QuantizedRows out, int columns) {
  allow_next();
  wait_for_previous();
  __shared__ float scratch[warp_size];
  const auto value = [&](int i) {
    float y[1];
    functor.template values<1>(blockIdx.x, i, y);
    return y[0];
  };
  quantize_row_from(out, blockIdx.x, columns, value, scratch);
}

// width: elements of one pack of what the functor reads. `packed`: its rows are 16-byte aligned.
template <int width, typename Functor>
void quantize_map(const char* op, const Functor& functor, const LinearInput& out, bool packed,
                  Stream stream) {
  constexpr int max_packs = 8;
  const std::int64_t rows = out.size(0);
  const auto columns = static_cast<int>(out.size(1));
  if (rows == 0 || columns == 0) return;
  const auto grid = static_cast<unsigned>(rows);
  const QuantizedRows to = quantized_rows(out);
  const int pack_count = columns / width;
  if (!packed || !takes_packs(out) || columns % width != 0 || pack_count > max_packs * 512) {
    return launch_early(op, quantize_from_memory<Functor>, {grid, 256}, stream, functor, to,
                        columns);
  }
  const int packs = pack_count <= 2048 ? 2 : max_packs;
  const auto threads =
      static_cast<unsigned>(ceil_div(ceil_div(pack_count, packs), warp_size) * warp_size);
  const auto kernel = packs == 2 ? quantize_in_registers<width, 2, Functor>
                                 : quantize_in_registers<width, max_packs, Functor>;
  launch_early(op, kernel, {grid, threads}, stream, functor, to, columns);
}

}  // namespace millrace::cuda
