// Decode attention: one query a sequence, so the time is that of reading the keys and values once.
//
// All (sequence, KV head) pairs' keys are one long list of tiles of 16 keys. Every warp on the
// device takes an equal share of that list, whatever the sequences' lengths are, and streams it
// through its own ring of shared memory without ever waiting for another warp. A share that covers
// all tiles of a pair writes the output; otherwise a partial result (unnormalised sum, maximum,
// sum of exponents) goes to scratch, and a
// second kernel combines the parts of a pair. (Having the last warp of a pair combine them, with no
// second kernel, was slower by 5 to 10 us.) The split is made on the device from kv_lengths, so a
// captured graph serves any lengths. (The even split over streaming multiprocessors is known as
// stream-K, arXiv:2301.03598; the combination is that of arXiv:2205.14135.)
#include <algorithm>
#include <map>

#include "kernels/attention_cuda.cuh"
#include "kernels/base/cuda_scratch.hpp"

namespace millrace::cuda {
namespace {

constexpr int tile_keys = 16;
constexpr int tile_rows = 16;  // query heads of a group in one matrix product
constexpr int warps = 4;
constexpr int threads = warps * warp_size;
constexpr int least_tiles = 4;       // of a warp's share: less is not worth combining
constexpr int max_sequences = 3072;  // of one launch: their tile counts are in shared memory
constexpr int max_blocks_per_sm = 2;

// Of lengths and tiles_before in shared memory.
constexpr int count_bytes(int sequences) {
  return (2 * sequences + 1) * static_cast<int>(sizeof(int));
}

// Written by the first kernel for the second.
struct Split {
  std::int64_t tiles;  // over all pairs
  int shares;          // warps that have a share
};

struct Scratch {
  Split* split;
  int* tiles_before;  // [sequences + 1] tiles of one KV head of earlier sequences
  float2* moments;    // [2 * warps on the device][tile_rows] maximum, sum
  float* sums;        // [2 * warps on the device][tile_rows][head_dim]
};

// Share w holds tiles [first_tile(w), first_tile(w + 1)).
__device__ __forceinline__ std::int64_t first_tile(const Split& split, int share) {
  return share * split.tiles / split.shares;
}

__device__ __forceinline__ int share_of_tile(const Split& split, std::int64_t tile) {
  return static_cast<int>(((tile + 1) * split.shares - 1) / split.tiles);
}

__device__ __forceinline__ int begin_tile(const AttentionArgs& args, int length) {
  return args.first_key(length - 1) / tile_keys;
}

__device__ __forceinline__ int tile_count(const AttentionArgs& args, int length) {
  return length <= 0 ? 0 : (length + tile_keys - 1) / tile_keys - begin_tile(args, length);
}

// A pair is (sequence, unit); a unit is a KV head, and which 16 of its query heads when it has
// more.
__host__ __device__ __forceinline__ int row_tiles(const AttentionArgs& args) {
  return (args.group + tile_rows - 1) / tile_rows;
}

// A place in the list of tiles.
struct Cursor {
  int sequence, unit, tile, end_tile, length;

  __device__ void enter(const AttentionArgs& args, const int* lengths, int next) {
    sequence = next;
    length = lengths[sequence];
    tile = begin_tile(args, length);
    end_tile = tile + tile_count(args, length);
  }

  // One tile on; the list must not end there.
  __device__ void advance(const AttentionArgs& args, const int* lengths, int units) {
    if (++tile < end_tile) return;
    if (++unit < units) return enter(args, lengths, sequence);
    unit = 0;
    int next = sequence + 1;
    while (lengths[next] <= 0) ++next;
    enter(args, lengths, next);
  }
};

template <typename T, typename Kv, int head_dim>
struct Ring {
  using Rows16 = KvRows<T, Kv, head_dim>;
  static constexpr int slot_bytes = 2 * tile_keys * Rows16::stride;  // keys, then values
  // Wide heads leave no registers for the queries; their fragments lie behind the rings.
  static constexpr bool queries_in_registers = head_dim <= 128;
  static constexpr int query_bytes = queries_in_registers ? 0 : head_dim / 16 * 16 * warp_size;
  static constexpr int budget = slot_bytes * warps * 3 <= 110 << 10 ? 108 << 10 : 200 << 10;
  static constexpr int slots_that_fit = (budget / warps - query_bytes) / slot_bytes;
  static constexpr int slots = slots_that_fit < 8 ? slots_that_fit : 8;
  static constexpr int bytes = (slots * slot_bytes + query_bytes) * warps;
  static_assert(slots >= 2);
};

// Sums the tiles of all sequences in order: tiles_before in shared memory, the total returned.
__device__ int count_tiles(const AttentionArgs& args, int* lengths, int* tiles_before) {
  __shared__ int warp_totals[warps];
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % warp_size;
  const int each = (args.sequences + threads - 1) / threads;
  const int begin = min(thread * each, args.sequences);
  const int end = min(begin + each, args.sequences);
  int own = 0;
  for (int s = begin; s < end; ++s) {
    lengths[s] = args.kv_lengths[s];
    own += tile_count(args, lengths[s]);
  }
  int through = own;
#pragma unroll
  for (int step = 1; step < warp_size; step *= 2) {
    const int before = __shfl_up_sync(0xffffffffU, through, step);
    if (lane >= step) through += before;
  }
  if (lane == warp_size - 1) warp_totals[thread / warp_size] = through;
  __syncthreads();
  int total = 0;
  int before = through - own;
#pragma unroll
  for (int w = 0; w < warps; ++w) {
    if (w < thread / warp_size) before += warp_totals[w];
    total += warp_totals[w];
  }
  for (int s = begin; s < end; ++s) {
    tiles_before[s] = before;
    before += tile_count(args, lengths[s]);
  }
  if (thread == 0) tiles_before[args.sequences] = total;
  __syncthreads();
  return total;
}

// The last sequence that begins at or before `tile` (of one unit's list) and is not empty.
__device__ int sequence_of_tile(const int* tiles_before, int sequences, std::int64_t tile,
                                int units) {
  int low = 0;
  int high = sequences - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (static_cast<std::int64_t>(tiles_before[middle]) * units <= tile) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// Where share `share` left its part of a pair that begins in `first_share`: of a share's parts, at
// most one begins its pair and at most one does not.
__device__ __forceinline__ int place_of_part(int share, int first_share, int row) {
  return (2 * share + (share == first_share ? 1 : 0)) * tile_rows + row;
}

template <typename T, typename Kv, int head_dim>
__global__ void __launch_bounds__(threads, max_blocks_per_sm)
    decode_kernel(AttentionArgs args, Scratch scratch) {
  using Rows16 = KvRows<T, Kv, head_dim>;
  using WarpRing = Ring<T, Kv, head_dim>;
  extern __shared__ __align__(16) unsigned char shared[];
  int* lengths = reinterpret_cast<int*>(shared + WarpRing::bytes);
  int* tiles_before = lengths + args.sequences;

#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();  // the second kernel may get ready
#endif
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int units = args.kv_heads * row_tiles(args);
  const int tiles_a_unit = count_tiles(args, lengths, tiles_before);
  Split split{static_cast<std::int64_t>(tiles_a_unit) * units, 0};
  split.shares = static_cast<int>(min(static_cast<std::int64_t>(gridDim.x) * warps,
                                      (split.tiles + least_tiles - 1) / least_tiles));
  if (blockIdx.x == 0) {
    if (threadIdx.x == 0) *scratch.split = split;
    for (int s = static_cast<int>(threadIdx.x); s <= args.sequences; s += threads) {
      scratch.tiles_before[s] = tiles_before[s];
    }
  }
  // Neighbouring shares lie in different blocks, so that few shares still use every multiprocessor.
  const int share = warp * static_cast<int>(gridDim.x) + static_cast<int>(blockIdx.x);
  if (share >= split.shares) return;

  const std::int64_t share_begin = first_tile(split, share);
  const int share_tiles = static_cast<int>(first_tile(split, share + 1) - share_begin);
  Cursor compute;
  {
    const int sequence = sequence_of_tile(tiles_before, args.sequences, share_begin, units);
    compute.enter(args, lengths, sequence);
    const int count = compute.end_tile - compute.tile;
    const auto within =
        static_cast<int>(share_begin - static_cast<std::int64_t>(tiles_before[sequence]) * units);
    compute.unit = within / count;
    compute.tile += within % count;
  }
  Cursor load = compute;

  const auto* k_cache = static_cast<const unsigned char*>(args.k_cache);
  const auto* v_cache = static_cast<const unsigned char*>(args.v_cache);
  const std::uint32_t ring =
      shared_address(shared) +
      static_cast<std::uint32_t>(warp * WarpRing::slots * WarpRing::slot_bytes);
  // Each lane holds the block of one of 32 tiles in a row, so that the table is read ahead of its
  // use.
  int known_sequence = -1;
  int known_tile = 0;
  int known_block = 0;

  const auto load_tile = [&](int slot) {
    if (load.sequence != known_sequence || load.tile < known_tile ||
        load.tile >= known_tile + warp_size) {
      known_sequence = load.sequence;
      known_tile = load.tile;
      const int tile = min(known_tile + lane, (load.length - 1) / tile_keys);
      known_block =
          args.block_tables[load.sequence * args.table_stride + tile * tile_keys / args.block_size];
    }
    const int block = __shfl_sync(0xffffffffU, known_block, load.tile - known_tile);
    const int kv_head = load.unit / row_tiles(args);
    const int offset = load.tile * tile_keys % args.block_size;
    const std::int64_t from =
        ((static_cast<std::int64_t>(block) * args.kv_heads + kv_head) * args.block_size + offset) *
        Rows16::row_bytes;
    const int valid_keys = load.length - load.tile * tile_keys;
    const std::uint32_t to = ring + static_cast<std::uint32_t>(slot * WarpRing::slot_bytes);
#pragma unroll
    for (int i = 0; i < Rows16::units * tile_keys; i += warp_size) {
      const int unit = i + lane;
      if (Rows16::units * tile_keys % warp_size == 0 || unit < Rows16::units * tile_keys) {
        const int key = unit / Rows16::units;
        const std::uint32_t at =
            to + static_cast<std::uint32_t>(key * Rows16::stride + unit % Rows16::units * 16);
        copy_async(at, k_cache + from + unit * 16, key < valid_keys);
        copy_async(at + tile_keys * Rows16::stride, v_cache + from + unit * 16, key < valid_keys);
      }
    }
  };

  int loaded = 0;
  const auto load_next = [&](int slot) {
    if (loaded < share_tiles) {
      if (loaded > 0) load.advance(args, lengths, units);
      load_tile(slot);
      ++loaded;
    }
    commit_copies();
  };
#pragma unroll
  for (int slot = 0; slot < WarpRing::slots; ++slot) load_next(slot);

  constexpr int steps = head_dim / 16;
  std::uint32_t queries[WarpRing::queries_in_registers ? steps : 1][4];
  auto* shared_queries =
      reinterpret_cast<uint4*>(shared + WarpRing::slots * WarpRing::slot_bytes * warps) +
      warp * steps * warp_size + lane;
  float sums[head_dim / 8][4];
  RunningSoftmax softmax;
  bool starts_pair = false;

  const auto enter_pair = [&]() {
    const int first_row = compute.unit % row_tiles(args) * tile_rows;
    const T* head = static_cast<const T*>(args.q) + compute.sequence * args.q_stride +
                    (compute.unit / row_tiles(args) * args.group + first_row) * head_dim;
    const auto query_of_row = [&](int row) -> const T* {
      return first_row + row < args.group ? head + row * head_dim : nullptr;
    };
    const T* upper = query_of_row(lane / 4);
    const T* lower = query_of_row(lane / 4 + 8);
    if constexpr (WarpRing::queries_in_registers) {
#pragma unroll
      for (int step = 0; step < steps; ++step) {
        load_query_fragment<T, Rows16>(queries[step], upper, lower, step);
      }
    } else {
#pragma unroll 4
      for (int step = 0; step < steps; ++step) {
        std::uint32_t four[4];
        load_query_fragment<T, Rows16>(four, upper, lower, step);
        shared_queries[step * warp_size] = {four[0], four[1], four[2], four[3]};
      }
    }
#pragma unroll
    for (int t = 0; t < head_dim / 8; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[t][e] = 0;
    }
    softmax = RunningSoftmax();
    starts_pair = compute.tile == begin_tile(args, compute.length);
  };

  const auto leave_pair = [&](bool ends_pair) {
    const int first_row = compute.unit % row_tiles(args) * tile_rows;
    const int rows = min(args.group - first_row, tile_rows);
    const int c = lane % 4;
    T* out = static_cast<T*>(args.out) + compute.sequence * args.out_stride +
             (compute.unit / row_tiles(args) * args.group + first_row) * head_dim;
    const int first_place = place_of_part(share, starts_pair ? share : -1, 0);
#pragma unroll
    for (int lower = 0; lower < 2; ++lower) {
      const float sum = sum_of_quad(softmax.sum[lower]);
      const int row = lane / 4 + 8 * lower;
      if (row >= rows) continue;
      if (starts_pair && ends_pair) {
        store_output_row<T, Rows16, head_dim>(out + row * head_dim, sums, lower, 1.0F / sum);
        continue;
      }
      if (c == 0) {
        scratch.moments[first_place + row] = {softmax.maximum[lower] * exponent_scale(args), sum};
      }
      float* to = scratch.sums + static_cast<std::int64_t>(first_place + row) * head_dim;
#pragma unroll
      for (int t = 0; t < head_dim / 8; ++t) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          to[Rows16::output_dimension(t, c, e)] = sums[t][2 * lower + e];
        }
      }
    }
  };

  enter_pair();
  int slot = 0;
  for (int index = 0; index < share_tiles; ++index) {
    wait_copies<WarpRing::slots - 1>();
    __syncwarp();
    const std::uint32_t key_rows = ring + static_cast<std::uint32_t>(slot * WarpRing::slot_bytes);
    const std::uint32_t value_rows = key_rows + tile_keys * Rows16::stride;

    float scores[2][4] = {};
#pragma unroll
    for (int step = 0; step < head_dim / 16; ++step) {
      std::uint32_t b[4];
      Rows16::keys(b, key_rows, step);
      if constexpr (WarpRing::queries_in_registers) {
        multiply_add<T>(scores[0], queries[step], b[0], b[1]);
        multiply_add<T>(scores[1], queries[step], b[2], b[3]);
      } else {
        const uint4 four = shared_queries[step * warp_size];  // written by this very lane
        const std::uint32_t a[4] = {four.x, four.y, four.z, four.w};
        multiply_add<T>(scores[0], a, b[0], b[1]);
        multiply_add<T>(scores[1], a, b[2], b[3]);
      }
    }
    cap_scores(scores, args);
    const int position = compute.length - 1;
    mask_scores(scores, args, {position, position}, compute.tile * tile_keys);
    rescale(sums, softmax.update(scores, exponent_scale(args)));
    const std::uint32_t probabilities[4] = {
        pack_two<T>(scores[0][0], scores[0][1]), pack_two<T>(scores[0][2], scores[0][3]),
        pack_two<T>(scores[1][0], scores[1][1]), pack_two<T>(scores[1][2], scores[1][3])};
#pragma unroll
    for (int step = 0; step < head_dim / 16; ++step) {
      std::uint32_t b[4];
      Rows16::values(b, value_rows, step);
      multiply_add<T>(sums[2 * step], probabilities, b[0], b[1]);
      multiply_add<T>(sums[2 * step + 1], probabilities, b[2], b[3]);
    }
    __syncwarp();
    load_next(slot);
    slot = slot + 1 == WarpRing::slots ? 0 : slot + 1;

    const bool ends_pair = compute.tile + 1 == compute.end_tile;
    const bool ends_share = index + 1 == share_tiles;
    if (ends_pair || ends_share) leave_pair(ends_pair);
    if (!ends_share) {
      compute.advance(args, lengths, units);
      if (ends_pair) enter_pair();
    }
  }
}

// One block a (query head, sequence): puts a pair's partial results together, or zeros where the
// sequence has no keys. Each warp takes every fourth partial result; lanes take dimensions.
template <typename T, int head_dim>
__global__ void __launch_bounds__(threads) combine_kernel(AttentionArgs args, Scratch scratch) {
  constexpr int lane_dims = (head_dim + warp_size - 1) / warp_size;
  __shared__ float2 warp_moments[warps];
  __shared__ float warp_sums[warps][head_dim];
  const int head = static_cast<int>(blockIdx.x);
  const int sequence = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  T* out = static_cast<T*>(args.out) + sequence * args.out_stride + head * head_dim;

#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
  const int tiles = scratch.tiles_before[sequence + 1] - scratch.tiles_before[sequence];
  if (tiles == 0) {
    for (int d = static_cast<int>(threadIdx.x); d < head_dim; d += threads) {
      out[d] = from_float<T>(0.0F);
    }
    return;
  }
  const Split split = *scratch.split;
  const int units = args.kv_heads * row_tiles(args);
  const int row_in_group = head % args.group;
  const int unit = head / args.group * row_tiles(args) + row_in_group / tile_rows;
  const int row = row_in_group % tile_rows;
  const std::int64_t begin = static_cast<std::int64_t>(scratch.tiles_before[sequence]) * units +
                             static_cast<std::int64_t>(unit) * tiles;
  const int first_share = share_of_tile(split, begin);
  const int last_share = share_of_tile(split, begin + tiles - 1);
  if (first_share == last_share) return;

  float maximum = -INFINITY;
  float sum = 0;
  float sums[lane_dims] = {};
  for (int share = first_share + warp; share <= last_share; share += warps) {
    const int place = place_of_part(share, first_share, row);
    const float2 moments = scratch.moments[place];
    const float* from = scratch.sums + static_cast<std::int64_t>(place) * head_dim;
    const float largest = fmaxf(maximum, moments.x);
    const float old_factor = exp2f(maximum - largest);
    const float new_factor = exp2f(moments.x - largest);
    maximum = largest;
    sum = sum * old_factor + moments.y * new_factor;
#pragma unroll
    for (int i = 0; i < lane_dims; ++i) {
      const int d = i * warp_size + lane;
      if (d < head_dim) sums[i] = sums[i] * old_factor + from[d] * new_factor;
    }
  }
  if (lane == 0) warp_moments[warp] = {maximum, sum};
#pragma unroll
  for (int i = 0; i < lane_dims; ++i) {
    const int d = i * warp_size + lane;
    if (d < head_dim) warp_sums[warp][d] = sums[i];
  }
  __syncthreads();
  float largest = -INFINITY;
#pragma unroll
  for (int w = 0; w < warps; ++w) largest = fmaxf(largest, warp_moments[w].x);
  float total = 0;
#pragma unroll
  for (int w = 0; w < warps; ++w) total += warp_moments[w].y * exp2f(warp_moments[w].x - largest);
  for (int d = static_cast<int>(threadIdx.x); d < head_dim; d += threads) {
    float value = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w) value += warp_sums[w][d] * exp2f(warp_moments[w].x - largest);
    out[d] = from_float<T>(value / total);
  }
}

// Blocks that run at once, with the sequences' tile counts beside the rings in shared memory.
template <typename Kernel>
int blocks_of_device(Kernel kernel, int ring_bytes, int sequences, int multiprocessors) {
  struct Known {
    int sequences = -1;
    int blocks_per_sm = 0;
  };
  thread_local std::map<Kernel, Known> known_of_kernels;
  Known& known = known_of_kernels[kernel];
  if (known.sequences < 0) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    ring_bytes + count_bytes(max_sequences)),
               "cudaFuncSetAttribute");
  }
  if (known.sequences != sequences) {
    const auto bytes = static_cast<std::size_t>(ring_bytes + count_bytes(sequences));
    cuda_check(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&known.blocks_per_sm, kernel, threads, bytes),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    known.sequences = sequences;
  }
  return std::clamp(known.blocks_per_sm, 1, max_blocks_per_sm) * multiprocessors;
}

template <typename T, typename Kv, int head_dim>
void launch(const AttentionArgs& args, Stream stream) {
  const auto kernel = decode_kernel<T, Kv, head_dim>;
  const int blocks = blocks_of_device(kernel, Ring<T, Kv, head_dim>::bytes, args.sequences,
                                      multiprocessor_count(stream.device));
  const std::size_t places = static_cast<std::size_t>(2 * blocks * warps) * tile_rows;

  auto* memory = static_cast<unsigned char*>(millrace::cuda::scratch(stream));
  Scratch scratch{};
  scratch.split = reinterpret_cast<Split*>(memory);
  scratch.tiles_before = reinterpret_cast<int*>(memory + 256);
  scratch.moments = reinterpret_cast<float2*>(memory + 256 + (max_sequences + 64) * 4);
  scratch.sums = reinterpret_cast<float*>(scratch.moments + places);
  const int shared_bytes = Ring<T, Kv, head_dim>::bytes + count_bytes(args.sequences);
  kernel<<<static_cast<unsigned>(blocks), threads, static_cast<std::size_t>(shared_bytes),
           native(stream)>>>(args, scratch);
  check_launch("decode_kernel");
  // Its blocks may start before the first kernel has ended, and wait for it on the device.
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(args.heads), static_cast<unsigned>(args.sequences));
  config.blockDim = dim3(threads);
  config.stream = native(stream);
  config.attrs = &early;
  config.numAttrs = compute_capability(stream.device) >= 90 ? 1 : 0;
  cuda_check(cudaLaunchKernelEx(&config, combine_kernel<T, head_dim>, args, scratch),
             "combine_kernel");
}

}  // namespace

bool decode_attention(const AttentionArgs& args, DType dtype, DType cache, Stream stream) {
  if (args.block_size % tile_keys != 0) return false;
  bool found = false;
  const bool known = with_tensor_core_types(dtype, cache, [&](auto element, auto cache_element) {
    using T = decltype(element);
    using Kv = decltype(cache_element);
    found = with_head_dim(args.head_dim, [&](auto size) {
      for (int begin = 0; begin < args.decode_sequences; begin += max_sequences) {
        AttentionArgs part = args;
        part.sequences = std::min(args.decode_sequences - begin, max_sequences);
        part.q = static_cast<const T*>(args.q) + begin * args.q_stride;
        part.out = static_cast<T*>(args.out) + begin * args.out_stride;
        part.kv_lengths += begin;
        part.block_tables += begin * args.table_stride;
        launch<T, Kv, decltype(size)::value>(part, stream);
      }
    });
  });
  return known && found;
}

}  // namespace millrace::cuda
