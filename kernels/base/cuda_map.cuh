// Element-wise kernels over matrices with strided rows: a functor is called once for every pack of
// columns (or every element, where rows are not aligned), with the row and the first column.
#pragma once

#include <algorithm>

#include "kernels/base/cuda_launch.cuh"
#include "kernels/base/cuda_types.cuh"

namespace millrace::cuda {

// Functor: template <int N> __device__ void apply(std::int64_t row, int column) const handles N
// columns.
template <int N, typename Functor>
__global__ void map_kernel(Functor functor, int columns, int blocks_per_row) {
  allow_next();
  wait_for_previous();
  const std::int64_t row = blockIdx.x / static_cast<unsigned>(blocks_per_row);
  const int block = static_cast<int>(blockIdx.x % static_cast<unsigned>(blocks_per_row));
  const int column = (block * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * N;
  if (column < columns) functor.template apply<N>(row, column);
}

template <int N, typename Functor>
void launch_map(const char* op, const Functor& functor, std::int64_t rows, std::int64_t columns,
                Stream stream) {
  const std::int64_t packs = ceil_div(columns, N);
  const std::int64_t threads = std::min<std::int64_t>(256, ceil_div(packs, warp_size) * warp_size);
  const std::int64_t blocks_per_row = ceil_div(packs, threads);
  const LaunchShape shape{static_cast<unsigned>(rows * blocks_per_row),
                          static_cast<unsigned>(threads)};
  launch_early(op, map_kernel<N, Functor>, shape, stream, functor, static_cast<int>(columns),
               static_cast<int>(blocks_per_row));
}

// width: elements of one pack. `packed`: all rows involved are 16-byte aligned.
template <int width, typename Functor>
void map_rows(const char* op, const Functor& functor, std::int64_t rows, std::int64_t columns,
              bool packed, Stream stream) {
  if (rows == 0 || columns == 0) return;
  if (packed && columns % width == 0) {
    launch_map<width>(op, functor, rows, columns, stream);
  } else {
    launch_map<1>(op, functor, rows, columns, stream);
  }
}

}  // namespace millrace::cuda
