// The k best candidates of rows on CUDA: every chunk of a row finds its own k best from registers,
// then one block a row takes the k best of those. merge_candidates is the second half on candidates
// of ranks.
#include "kernels/base/cuda_scratch.hpp"
#include "kernels/sampling_rows_cuda.cuh"

namespace millrace::cuda {
namespace {

// Writes the k best of what the block's threads hold, best first. best() gives a thread's best
// candidate below a bound.
template <typename BestBelow>
__device__ void select_best(std::int64_t* to, int k, BestBelow&& best_below) {
  __shared__ std::int64_t warp_best[row_threads / warp_size];
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  std::int64_t own = best_below(std::numeric_limits<std::int64_t>::max());
  for (int i = 0; i < k; ++i) {
    const std::int64_t of_warp = warp_max(own);
    if (lane == 0) warp_best[threadIdx.x / warp_size] = of_warp;
    __syncthreads();
    const std::int64_t winner =
        warp_max(lane < row_threads / warp_size ? warp_best[lane] : no_candidate);
    __syncthreads();
    if (threadIdx.x == 0) to[i] = winner;
    if (own == winner && winner != no_candidate) own = best_below(winner);
  }
}

__global__ void __launch_bounds__(row_threads)
    chunk_best_kernel(LogitRows rows, int k, std::int64_t* found) {
  float logits[quads_a_thread * 4];
  int tokens = 0;
  std::int32_t first_token = 0;
  for_chunk(rows, [&](int column, float logit) {
    if (tokens == 0) first_token = static_cast<std::int32_t>(rows.begin + column);
    logits[tokens++] = logit;
  });
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.y) * gridDim.x + blockIdx.x;
  select_best(found + place * k, k, [&](std::int64_t bound) {
    std::int64_t best = no_candidate;
#pragma unroll
    for (int i = 0; i < quads_a_thread * 4; ++i) {
      if (!(logits[i] > -INFINITY)) continue;
      const std::int64_t candidate =
          pack_candidate(logits[i], first_token + i / 4 * row_threads * 4 + i % 4);
      if (candidate < bound && candidate > best) best = candidate;
    }
    return best;
  });
}

// Lists l of row r lie at from + l * list_stride + r * row_stride, k candidates each.
__global__ void __launch_bounds__(row_threads)
    merge_kernel(const std::int64_t* from, int lists, std::int64_t list_stride,
                 std::int64_t row_stride, int k, std::int64_t* to) {
  const std::int64_t row = blockIdx.x;
  select_best(to + row * k, k, [&](std::int64_t bound) {
    std::int64_t best = no_candidate;
    for (int i = static_cast<int>(threadIdx.x); i < lists * k; i += row_threads) {
      const std::int64_t candidate = from[i / k * list_stride + row * row_stride + i % k];
      if (candidate < bound && candidate > best) best = candidate;
    }
    return best;
  });
}

}  // namespace

void top_candidates(const TensorView& candidates, const TensorView& logits, VocabShard shard,
                    Stream stream) {
  const std::int64_t rows = logits.size(0);
  const std::int64_t k = candidates.size(1);
  if (rows == 0 || k == 0) return;
  if (shard.size == 0) {
    return cuda::fill_bytes(candidates.data(), 0xff, candidates.bytes(), stream);  // no_candidate
  }
  const std::int64_t chunks = ceil_div(shard.size, chunk_columns);
  const auto row_bytes = static_cast<std::size_t>(chunks * k) * sizeof(std::int64_t);
  const auto rows_at_once = static_cast<std::int64_t>(scratch_bytes / row_bytes);
  auto* found = static_cast<std::int64_t*>(scratch(stream));
  for (std::int64_t begin = 0; begin < rows; begin += rows_at_once) {
    const std::int64_t count = std::min(rows - begin, rows_at_once);
    launch_on_chunks("chunk_best", chunk_best_kernel, count, shard, stream,
                     LogitRows(logits.slice(0, begin, count), shard), static_cast<int>(k), found);
    merge_kernel<<<static_cast<unsigned>(count), row_threads, 0, native(stream)>>>(
        found, static_cast<int>(chunks), k, chunks * k, static_cast<int>(k),
        candidates.as<std::int64_t>() + begin * k);
    check_launch("merge_kernel");
  }
}

void merge_candidates(const TensorView& candidates, const TensorView& gathered, Stream stream) {
  const std::int64_t rows = candidates.size(0);
  const std::int64_t k = candidates.size(1);
  if (rows == 0 || k == 0) return;
  merge_kernel<<<static_cast<unsigned>(rows), row_threads, 0, native(stream)>>>(
      gathered.as<std::int64_t>(), static_cast<int>(gathered.size(0)), gathered.stride(0), k,
      static_cast<int>(k), candidates.as<std::int64_t>());
  check_launch("merge_kernel");
}

}  // namespace millrace::cuda
