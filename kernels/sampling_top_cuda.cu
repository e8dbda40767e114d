// The k best candidates of rows on CUDA. A warp goes through its part of a row with the k best so
// far in its lanes, best first; what does not beat the last of them costs one comparison. Then one
// block a row does the same with what the parts found. merge_candidates is that second half on
// candidates of ranks.
#include "kernels/base/cuda_scratch.hpp"
#include "kernels/sampling_rows_cuda.cuh"

namespace millrace::cuda {
namespace {

constexpr int warps = row_threads / warp_size;
constexpr int quads_at_once = 4;
constexpr int step_columns = quads_at_once * warp_size * 4;
constexpr int warps_a_multiprocessor = 48;  // that parts are made for

// The best candidates that a warp has seen: lane l has the l-th, of which k count.
struct WarpBest {
  int k;
  std::int64_t own = no_candidate;
  std::int64_t last = no_candidate;  // the k-th

  // Every lane offers a candidate, or no_candidate.
  __device__ void offer(std::int64_t candidate) {
    unsigned offers = __ballot_sync(0xffffffffU, candidate > last);
    while (offers != 0) {
      const int from = __ffs(static_cast<int>(offers)) - 1;
      insert(__shfl_sync(0xffffffffU, candidate, from));
      offers &= offers - 1;
      offers &= __ballot_sync(0xffffffffU, candidate > last);
    }
  }

  __device__ void store(std::int64_t* to) const {
    if (lane() < k) to[lane()] = own;
  }

  static __device__ int lane() { return static_cast<int>(threadIdx.x) % warp_size; }

 private:
  __device__ void insert(std::int64_t candidate) {
    const int place = __popc(__ballot_sync(0xffffffffU, own > candidate));
    const std::int64_t before = __shfl_up_sync(0xffffffffU, own, 1);
    if (lane() >= place) own = lane() == place ? candidate : before;
    last = __shfl_sync(0xffffffffU, own, k - 1);
  }
};

// Part p of `parts` of row blockIdx.y: part_columns columns, a multiple of step_columns.
__global__ void __launch_bounds__(row_threads)
    part_best_kernel(LogitRows rows, int parts, int part_columns, int k, std::int64_t* found) {
  const int part = static_cast<int>(blockIdx.x) * warps + static_cast<int>(threadIdx.x) / warp_size;
  if (part >= parts) return;
  const std::int64_t row = blockIdx.y;
  const int end = min(rows.size, (part + 1) * part_columns);
  WarpBest best{k};
  float last = -INFINITY;  // logit of best.last
  for (int begin = part * part_columns; begin < end; begin += step_columns) {
    Pack<float, 4> quads[quads_at_once];
#pragma unroll
    for (int q = 0; q < quads_at_once; ++q) {
      quads[q] = rows.quad(row, begin + (q * warp_size + WarpBest::lane()) * 4);
    }
#pragma unroll
    for (int q = 0; q < quads_at_once; ++q) {
      bool any = false;
#pragma unroll
      for (int i = 0; i < 4; ++i) any |= quads[q].values[i] >= last;
      if (!__any_sync(0xffffffffU, any)) continue;
      const auto token =
          static_cast<std::int32_t>(rows.begin) + begin + (q * warp_size + WarpBest::lane()) * 4;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float logit = quads[q].values[i];
        best.offer(logit > -INFINITY && logit >= last ? pack_candidate(logit, token + i)
                                                      : no_candidate);
        if (best.last != no_candidate) last = candidate_value(best.last);
      }
    }
  }
  best.store(found + (row * parts + part) * k);
}

// One block a row: every warp goes through some of the candidates, the first through what they
// found. Lists l of row r lie at from + l * list_stride + r * row_stride, k candidates each.
__global__ void __launch_bounds__(row_threads)
    merge_kernel(const std::int64_t* from, int lists, std::int64_t list_stride,
                 std::int64_t row_stride, int k, std::int64_t* to) {
  __shared__ std::int64_t found[warps * warp_size];
  const std::int64_t row = blockIdx.x;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  WarpBest of_warp{k};
  for (int begin = warp * warp_size; begin < lists * k; begin += row_threads) {
    const int i = begin + WarpBest::lane();
    of_warp.offer(i < lists * k ? from[i / k * list_stride + row * row_stride + i % k]
                                : no_candidate);
  }
  found[threadIdx.x] = WarpBest::lane() < k ? of_warp.own : no_candidate;
  __syncthreads();
  if (warp > 0) return;
  WarpBest best{k};
  for (int w = 0; w < warps; ++w) best.offer(found[w * warp_size + WarpBest::lane()]);
  best.store(to + row * k);
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
  const std::int64_t all_warps =
      std::int64_t{warps_a_multiprocessor} * multiprocessor_count(stream.device);
  const std::int64_t part_columns =
      ceil_div(ceil_div(shard.size, ceil_div(all_warps, rows)), step_columns) * step_columns;
  const std::int64_t parts = ceil_div(shard.size, part_columns);
  const auto row_bytes = static_cast<std::size_t>(parts * k) * sizeof(std::int64_t);
  const auto rows_at_once = static_cast<std::int64_t>(scratch_bytes / row_bytes);
  auto* found = static_cast<std::int64_t*>(scratch(stream));
  for (std::int64_t begin = 0; begin < rows; begin += rows_at_once) {
    const std::int64_t count = std::min(rows - begin, rows_at_once);
    const dim3 grid(static_cast<unsigned>(ceil_div(parts, warps)), static_cast<unsigned>(count));
    part_best_kernel<<<grid, row_threads, 0, native(stream)>>>(
        LogitRows(logits.slice(0, begin, count), shard), static_cast<int>(parts),
        static_cast<int>(part_columns), static_cast<int>(k), found);
    check_launch("part_best_kernel");
    merge_kernel<<<static_cast<unsigned>(count), row_threads, 0, native(stream)>>>(
        found, static_cast<int>(parts), k, parts * k, static_cast<int>(k),
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
