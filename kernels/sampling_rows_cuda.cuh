// Passes over the logits of every row: a row is cut into chunks of columns, a block a chunk, so
// that few rows still fill the device. What chunks find is joined by integer atomics, exact in any
// order.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/base/cuda_types.cuh"
#include "kernels/sampling.hpp"
#include "kernels/sampling_math.hpp"

namespace millrace::cuda {

constexpr std::int32_t lowest_key = std::numeric_limits<std::int32_t>::min();
constexpr int row_threads = 256;
constexpr int quads_a_thread = 8;
constexpr int chunk_columns = row_threads * quads_a_thread * 4;

// The logits of one row that are real tokens.
struct LogitRows {
  Rows<float> logits;
  std::int64_t begin;  // token of column 0
  int size;            // columns
  bool packed;         // rows start on 16-byte boundaries

  LogitRows(const TensorView& view, VocabShard shard)
      : logits(rows_of<float>(view)),
        begin(shard.begin),
        size(static_cast<int>(shard.size)),
        packed(rows_are_packed(view)) {}

  // Four logits from `column` on; what lies behind the row's end is NaN, which nothing ever
  // chooses.
  __device__ Pack<float, 4> quad(std::int64_t row, int column) const {
    const float* from = logits.row(row) + column;
    if (packed && column + 4 <= size) return load_pack<float, 4>(from);
    Pack<float, 4> values;
#pragma unroll
    for (int i = 0; i < 4; ++i) values.values[i] = column + i < size ? from[i] : NAN;
    return values;
  }
};

// Column of the thread's q-th quad of the block's chunk.
__device__ __forceinline__ int column_of_quad(int q) {
  return static_cast<int>(blockIdx.x) * chunk_columns +
         (q * row_threads + static_cast<int>(threadIdx.x)) * 4;
}

// Calls take(column, quad) for the thread's share of the block's chunk of row blockIdx.y; all loads
// are issued before the first use. Columns may lie behind the row's end: their logits are NaN.
template <typename Quads, typename Take>
__device__ __forceinline__ void for_quads(const Quads& rows, Take&& take) {
  Pack<float, 4> quads[quads_a_thread];
#pragma unroll
  for (int q = 0; q < quads_a_thread; ++q) quads[q] = rows.quad(blockIdx.y, column_of_quad(q));
#pragma unroll
  for (int q = 0; q < quads_a_thread; ++q) take(column_of_quad(q), quads[q]);
}

// The same, one logit at a time: take(column, logit).
template <typename Take>
__device__ __forceinline__ void for_chunk(const LogitRows& rows, Take&& take) {
  for_quads(rows, [&](int column, const Pack<float, 4>& quad) {
#pragma unroll
    for (int i = 0; i < 4; ++i) take(column + i, quad.values[i]);
  });
}

// Launches kernel(arguments...) on every chunk of every row.
template <typename... Parameters, typename... Arguments>
void launch_on_chunks(const char* op, void (*kernel)(Parameters...), std::int64_t rows,
                      VocabShard shard, Stream stream, const Arguments&... arguments) {
  if (rows == 0 || shard.size == 0) return;
  const dim3 grid(static_cast<unsigned>(ceil_div(shard.size, chunk_columns)),
                  static_cast<unsigned>(rows));
  kernel<<<grid, row_threads, 0, native(stream)>>>(arguments...);
  check_launch(op);
}

// One thread for each of `count` independent small things.
template <typename Body>
__global__ void each_kernel(Body body, int count) {
  const int index = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (index < count) body(index);
}

template <typename Body>
void for_each(const char* op, std::int64_t count, Stream stream, const Body& body) {
  if (count == 0) return;
  each_kernel<<<static_cast<unsigned>(ceil_div(count, 128)), 128, 0, native(stream)>>>(
      body, static_cast<int>(count));
  check_launch(op);
}

__device__ __forceinline__ std::int64_t warp_max(std::int64_t value) {
#pragma unroll
  for (int step = warp_size / 2; step > 0; step /= 2) {
    const std::int64_t other = __shfl_xor_sync(0xffffffffU, value, step);
    value = other > value ? other : value;
  }
  return value;
}

__device__ __forceinline__ std::int64_t warp_total(std::int64_t value) {
#pragma unroll
  for (int step = warp_size / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(0xffffffffU, value, step);
  }
  return value;
}

__device__ __forceinline__ void atomic_add(std::int64_t* to, std::int64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}

__device__ __forceinline__ void atomic_max(std::int64_t* to, std::int64_t value) {
  atomicMax(reinterpret_cast<long long*>(to), static_cast<long long>(value));
}

// Maximum of floats by integer atomics: non-negative floats order as signed integers, negative ones
// against unsigned integers.
__device__ __forceinline__ void atomic_max(float* to, float value) {
  if (value >= 0) {
    atomicMax(reinterpret_cast<int*>(to), __float_as_int(value + 0.0F));
  } else {
    atomicMin(reinterpret_cast<unsigned*>(to), __float_as_uint(value));
  }
}

}  // namespace millrace::cuda
