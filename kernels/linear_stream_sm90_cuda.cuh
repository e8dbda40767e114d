// The kernel of linear_stream.hpp. out^T [n, m] = w [n, k] * x [m, k]^T: the weight is the first
// operand of the tensor cores (64 rows at once), the few rows of x the second, so that little of a
// tile is wasted however few there are.
//
// A tile is all of k and as many rows of the weight, up to 64, as give every multiprocessor equally
// many tiles: sums are nobody else's, and a block has nothing to do at its end but to store them.
// (Equal shares of tiles of 128 rows, cut anywhere in k, with sums handed over in memory, took 2 to
// 6 us more a product.) Where a tile has fewer than 64 rows, the tensor cores multiply what lies
// behind them too; those sums are not stored.
//
// A block takes nearly all shared memory of a multiprocessor. It lets the next op start at once: a
// small op gets ready beside it, lets the next product start in turn, and that one's blocks come as
// these leave. One warp feeds the pipeline, four multiply. The feeder fills the pipeline with
// weights before wait_for_previous().
#pragma once

#include "kernels/base/cuda_launch.cuh"
#include "kernels/base/cuda_wgmma_rows.cuh"

namespace millrace::cuda {

constexpr int stream_rows = 64;   // of the weight in a tile, at most
constexpr int stream_blocks = 2;  // of 128 bytes of k in a unit, the work of one stage
constexpr int stream_most_stages = 32;
constexpr int stream_threads = warpgroup_size + warp_size;

// T: of x and w. Out: bf16 or f16, of the bias and, unless it is f32, of out; T unless that is fp8.
struct StreamArgs {
  void* out;
  const void* bias;  // nullptr for none
  std::int64_t out_stride;
  int m, n;
  int rows;               // of the weight in a tile, a multiple of 8
  int stages;             // of the pipeline
  int tiles, tile_units;  // tiles, and units of each
  bool out_is_f32;
  const float *x_scales, *w_scales;  // of fp8: [m] and [n], of rows
};

// A block's tiles are [first_tile(block), first_tile(block + 1)).
__device__ __forceinline__ int first_tile(const StreamArgs& args, unsigned block) {
  return static_cast<int>(static_cast<std::int64_t>(args.tiles) * block / gridDim.x);
}

// How long the second-level cache keeps what a copy read: weights pass through, x is read by all.
constexpr std::uint64_t evict_first = 0x12f0000000000000;
constexpr std::uint64_t evict_last = 0x14f0000000000000;

__device__ __forceinline__ void copy_rows(std::uint32_t to, const CUtensorMap& map,
                                          std::uint32_t barrier, int column, int row,
                                          std::uint64_t keep) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(column), "r"(row), "l"(keep)
      : "memory");
}

__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Where a block's pipeline lies in shared memory. A stage is the unit's blocks of the weight, then
// those of x.
template <int tokens>
struct StreamPlace {
  std::uint32_t stages, full, empty;
  int rows;  // of the tile

  __device__ int block_bytes() const { return rows * swizzled_row_bytes; }
  __device__ int stage_bytes() const {
    return stream_blocks * (rows + tokens) * swizzled_row_bytes;
  }
  __device__ std::uint32_t weights(int slot, int block) const {
    return stages + static_cast<std::uint32_t>(slot * stage_bytes() + block * block_bytes());
  }
  __device__ std::uint32_t x(int slot, int block) const {
    return weights(slot, stream_blocks) +
           static_cast<std::uint32_t>(block * tokens * swizzled_row_bytes);
  }
  __device__ std::uint32_t is_full(int slot) const {
    return full + 8U * static_cast<unsigned>(slot);
  }
  __device__ std::uint32_t is_empty(int slot) const {
    return empty + 8U * static_cast<unsigned>(slot);
  }
};

// One thread keeps the pipeline full with the units of the block's tiles.
template <typename T, int tokens>
__device__ void feed_stream(const StreamArgs& args, const StreamPlace<tokens>& place,
                            const CUtensorMap& w_map, const CUtensorMap& x_map) {
  constexpr int width = swizzled_row_bytes / static_cast<int>(sizeof(T));  // of a block of k
  const int begin = first_tile(args, blockIdx.x) * args.tile_units;
  const int count = first_tile(args, blockIdx.x + 1) * args.tile_units - begin;
  const int ahead = min(count, args.stages);

  const auto copy_weights = [&](int unit, int slot) {
    const int tile = unit / args.tile_units;
    const int column = (unit - tile * args.tile_units) * stream_blocks * width;
    barrier_expect(place.is_full(slot), place.stage_bytes());
#pragma unroll
    for (int block = 0; block < stream_blocks; ++block) {
      copy_rows(place.weights(slot, block), w_map, place.is_full(slot), column + block * width,
                tile * args.rows, evict_first);
    }
  };
  const auto copy_x = [&](int unit, int slot) {
    const int column = unit % args.tile_units * stream_blocks * width;
#pragma unroll
    for (int block = 0; block < stream_blocks; ++block) {
      copy_rows(place.x(slot, block), x_map, place.is_full(slot), column + block * width, 0,
                evict_last);
    }
  };

  for (int i = 0; i < ahead; ++i) copy_weights(begin + i, i);
  wait_for_previous();
  for (int i = 0; i < ahead; ++i) copy_x(begin + i, i);
  int slot = 0;
  int parity = 0;
  for (int i = ahead; i < count; ++i) {
    barrier_wait(place.is_empty(slot), parity);
    copy_weights(begin + i, slot);
    copy_x(begin + i, slot);
    if (++slot == args.stages) {
      slot = 0;
      parity ^= 1;
    }
  }
}

// What a thread holds of a tile of out^T: rows g and g + 8 of its warp's 16 (g = lane / 4), columns
// 2 c and 2 c + 1 of every eight (c = lane % 4).
template <int tokens>
using StreamSums = float[tokens / 8][4];

// Thread (g, c) gives elements (g, 2 c), (g, 2 c + 1) of eight by eight and gets (2 c, g), (2 c +
// 1, g).
__device__ __forceinline__ std::uint32_t transposed(std::uint32_t two) {
  std::uint32_t result = 0;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(two));
  return result;
}

template <typename T, typename Out, int tokens>
__device__ void store_sums(const StreamArgs& args, int tile, StreamSums<tokens>& sums) {
  constexpr bool is_fp8 = std::is_same_v<T, Fp8>;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int g = lane / 4;
  const int c = lane % 4;
  const int within = static_cast<int>(threadIdx.x) / warp_size * 16;
  const int row = tile * args.rows + within;
  const int rows = min(args.rows, args.n - tile * args.rows);  // a multiple of eight, as n is
  const bool has_upper = within < rows;
  const bool has_lower = within + 8 < rows;
  [[maybe_unused]] float scale[2] = {};
  if constexpr (is_fp8) {
    if (has_upper) scale[0] = args.w_scales[row + g];
    if (has_lower) scale[1] = args.w_scales[row + g + 8];
  }
  float bias[2] = {};
  if (args.bias != nullptr) {
    const Out* from = static_cast<const Out*>(args.bias) + row + g;
    if (has_upper) bias[0] = to_float(from[0]);
    if (has_lower) bias[1] = to_float(from[8]);
  }
#pragma unroll
  for (int t = 0; t < tokens / 8; ++t) {
    if (t * 8 >= args.m) break;
    float(&sum)[4] = sums[t];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if constexpr (is_fp8) {
        const int token = t * 8 + 2 * c + e % 2;
        sum[e] *= scale[e / 2] * (token < args.m ? args.x_scales[token] : 0.0F);
      }
      sum[e] += bias[e / 2];
    }
    if (args.out_is_f32) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int token = t * 8 + 2 * c + e;
        if (token >= args.m) continue;
        float* to = static_cast<float*>(args.out) + token * args.out_stride + row + g;
        if (has_upper) to[0] = sum[e];
        if (has_lower) to[8] = sum[2 + e];
      }
    } else {
      const std::uint32_t upper = transposed(pack_two<Out>(sum[0], sum[1]));
      const std::uint32_t lower = transposed(pack_two<Out>(sum[2], sum[3]));
      const int token = t * 8 + g;
      if (token >= args.m) continue;
      Out* to = static_cast<Out*>(args.out) + token * args.out_stride + row + 2 * c;
      if (has_upper) *reinterpret_cast<std::uint32_t*>(to) = upper;
      if (has_lower) *reinterpret_cast<std::uint32_t*>(to + 8) = lower;
    }
  }
}

template <typename T, typename Out, int tokens>
__device__ void multiply_stream(const StreamArgs& args, const StreamPlace<tokens>& place) {
  const bool is_first_lane = threadIdx.x % warp_size == 0;
  const int end = first_tile(args, blockIdx.x + 1);
  int slot = 0;
  int parity = 0;
  for (int tile = first_tile(args, blockIdx.x); tile < end; ++tile) {
    StreamSums<tokens> sums;
    int previous = -1;
    for (int unit = 0; unit < args.tile_units; ++unit) {
      barrier_wait(place.is_full(slot), parity);
      fence_products();
#pragma unroll
      for (int block = 0; block < stream_blocks; ++block) {
#pragma unroll
        for (int step = 0; step < 4; ++step) {
          const auto within = static_cast<std::uint32_t>(step * 32);
          multiply_rows<T>(sums, matrix_descriptor(place.weights(slot, block) + within),
                           matrix_descriptor(place.x(slot, block) + within),
                           unit + block + step > 0);
        }
      }
      commit_products();
      if (previous >= 0) {
        wait_products<1>();
        if (is_first_lane) barrier_arrive(place.is_empty(previous));
      }
      previous = slot;
      if (++slot == args.stages) {
        slot = 0;
        parity ^= 1;
      }
    }
    wait_products<0>();
    pin(sums);
    if (is_first_lane) barrier_arrive(place.is_empty(previous));
    store_sums<T, Out, tokens>(args, tile, sums);
  }
}

template <typename T, typename Out, int tokens>
__global__ void __launch_bounds__(stream_threads)
    stream_kernel(const __grid_constant__ CUtensorMap w_map,
                  const __grid_constant__ CUtensorMap x_map, StreamArgs args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char shared[];
  __shared__ std::uint64_t barriers[2 * stream_most_stages];
  const StreamPlace<tokens> place{(shared_address(shared) + 1023U) & ~1023U,
                                  shared_address(barriers),
                                  shared_address(barriers + stream_most_stages), args.rows};
  allow_next();
  if (threadIdx.x == 0) {
    for (int slot = 0; slot < args.stages; ++slot) {
      barrier_init(place.is_full(slot), 1);
      barrier_init(place.is_empty(slot), warpgroup_size / warp_size);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  } else if (threadIdx.x == warpgroup_size) {
    prefetch_map(w_map);
    prefetch_map(x_map);
  }
  __syncthreads();
  if (threadIdx.x < warpgroup_size) {
    wait_for_previous();
    multiply_stream<T, Out, tokens>(args, place);
  } else if (threadIdx.x == warpgroup_size) {
    feed_stream<T, tokens>(args, place, w_map, x_map);
  }
#endif
}

}  // namespace millrace::cuda
