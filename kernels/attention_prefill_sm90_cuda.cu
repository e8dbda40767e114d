// Prefill attention on Hopper, head_dim 64 and 128, a cache of the queries' type.
//
// A block holds 128 packed query rows (attention_cuda.cuh). One warp feeds keys and values, 128 at
// a time, by the tensor copy engine: a box for every cache block and 64 dimensions, the block table
// giving the coordinate. Two warpgroups of 64 rows each multiply. Within a warpgroup the scores of
// a tile are multiplied while the previous tile's probabilities still meet their values; between
// the two, named barriers take turns, so that one's exponentials run under the other's products.
// The structure is FlashAttention-3's (arXiv:2407.08608).
#include <algorithm>

#include "kernels/attention_cuda.cuh"
#include "kernels/base/cuda_wgmma.cuh"

namespace millrace::cuda {
namespace {

constexpr int consumers = 2;  // warpgroups
constexpr int group_rows = 64;
constexpr int tile_rows = consumers * group_rows;
constexpr int tile_keys = 128;
constexpr int stages = 2;
constexpr int threads = (1 + consumers) * warpgroup_size;
constexpr int consumer_threads = consumers * warpgroup_size;
constexpr int columns_bytes = tile_keys * swizzled_row_bytes;  // 64 dimensions of a tile of keys
constexpr int query_columns_bytes =
    group_rows * swizzled_row_bytes;  // and of a warpgroup's queries

// Named barriers; 0 belongs to __syncthreads.
constexpr int queries_barrier = 1;  // and 2: a warpgroup's queries are in place
constexpr int turn_barrier = 3;     // and 4: a warpgroup's turn to multiply
constexpr int values_barrier = 5;   // the last tile's missing values are zero

struct Barriers {
  std::uint64_t keys_full[stages], keys_empty[stages], values_full[stages], values_empty[stages];
};

template <int head_dim>
constexpr int shared_bytes() {
  constexpr int columns = head_dim / 64;
  return 1024 + columns * (consumers * query_columns_bytes + 2 * stages * columns_bytes) +
         static_cast<int>(sizeof(Barriers));
}

// Positions in shared memory.
template <int head_dim>
struct Layout {
  static constexpr int columns = head_dim / 64;
  static constexpr int tile_bytes = columns * columns_bytes;
  std::uint32_t queries, keys, values, barriers;

  __device__ explicit Layout(const void* shared) {
    queries = (shared_address(shared) + 1023U) & ~1023U;
    keys = queries + columns * consumers * query_columns_bytes;
    values = keys + stages * tile_bytes;
    barriers = values + stages * tile_bytes;
  }
  __device__ std::uint32_t barrier(std::size_t offset, int stage) const {
    return barriers + static_cast<std::uint32_t>(offset) + static_cast<std::uint32_t>(stage * 8);
  }
  __device__ std::uint32_t keys_full(int stage) const {
    return barrier(offsetof(Barriers, keys_full), stage);
  }
  __device__ std::uint32_t keys_empty(int stage) const {
    return barrier(offsetof(Barriers, keys_empty), stage);
  }
  __device__ std::uint32_t values_full(int stage) const {
    return barrier(offsetof(Barriers, values_full), stage);
  }
  __device__ std::uint32_t values_empty(int stage) const {
    return barrier(offsetof(Barriers, values_empty), stage);
  }
};

// The stage in use and the parity of its current phase.
struct Turn {
  int stage = 0;
  int parity = 0;

  __device__ void next() {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// A block's work: one tile of queries against keys [keys_begin, keys_end), walked from the last
// tile of keys to the first, so that what the causal mask cuts comes first.
struct Work {
  QueryTile tile;
  int rows, keys_begin, keys_end, key_tiles;

  __device__ explicit Work(const AttentionArgs& args) {
    // The last tiles of a prompt see the most keys: they go first.
    tile = find_query_tile(args, static_cast<int>(gridDim.x - 1 - blockIdx.x), tile_rows);
    rows = tile.queries * args.group;
    const int last_row = min(tile.row + tile_rows, rows) - 1;
    keys_end = tile.kv_length == 0 ? 0 : position_of_row(args, last_row) + 1;
    keys_begin = args.first_key(position_of_row(args, tile.row)) / tile_keys * tile_keys;
    key_tiles = (keys_end - keys_begin + tile_keys - 1) / tile_keys;
  }
  __device__ int position_of_row(const AttentionArgs& args, int row) const {
    return tile.kv_length - tile.queries + row / args.group;
  }
  __device__ int begin_of(int key_tile) const {
    return keys_begin + (key_tiles - 1 - key_tile) * tile_keys;
  }
};

// The feeding warp. box_rows: keys of one copy, all in one cache block.
template <int head_dim>
__device__ void feed(const AttentionArgs& args, const Work& work, const Layout<head_dim>& layout,
                     const CUtensorMap& k_map, const CUtensorMap& v_map, int box_rows) {
  constexpr int columns = head_dim / 64;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int kv_head = static_cast<int>(blockIdx.y);
  const std::int32_t* table = args.block_tables + work.tile.sequence * args.table_stride;
  const int boxes = tile_keys / box_rows * columns;
  Turn turn;
  for (int key_tile = 0; key_tile < work.key_tiles; ++key_tile) {
    const auto copy_tile = [&](std::uint32_t to, const CUtensorMap& map, std::uint32_t full,
                               std::uint32_t empty) {
      barrier_wait(empty, turn.parity ^ 1);  // at first there is nothing to wait for
      if (lane == 0) barrier_expect(full, Layout<head_dim>::tile_bytes);
      __syncwarp();
      for (int box = lane; box < boxes; box += warp_size) {
        const int row = box / columns * box_rows;
        const int column = box % columns;
        // Behind the last key any block will do: its scores are masked, its values made zero.
        const int key = min(work.begin_of(key_tile) + row, work.tile.kv_length - 1);
        const int block = table[key / args.block_size];
        const int offset = key % args.block_size / box_rows * box_rows;
        copy_box(to + static_cast<std::uint32_t>(column * columns_bytes + row * swizzled_row_bytes),
                 map, full, column * 64, offset, kv_head, block);
      }
    };
    const auto stage_bytes = static_cast<std::uint32_t>(turn.stage * Layout<head_dim>::tile_bytes);
    copy_tile(layout.keys + stage_bytes, k_map, layout.keys_full(turn.stage),
              layout.keys_empty(turn.stage));
    copy_tile(layout.values + stage_bytes, v_map, layout.values_full(turn.stage),
              layout.values_empty(turn.stage));
    turn.next();
  }
}

template <typename T, int head_dim>
__device__ void place_queries(const AttentionArgs& args, const Work& work, std::uint32_t queries,
                              int first_row) {
  constexpr int units = head_dim / 8;  // of 16 bytes
  const int thread = static_cast<int>(threadIdx.x) % warpgroup_size;
#pragma unroll
  for (int i = 0; i < group_rows * units; i += warpgroup_size) {
    const int row = (i + thread) / units;
    const int unit = (i + thread) % units;
    uint4 data = {0, 0, 0, 0};
    if (first_row + row < work.rows) {
      const int packed = first_row + row;
      const int head = static_cast<int>(blockIdx.y) * args.group + packed % args.group;
      const T* from = static_cast<const T*>(args.q) +
                      (work.tile.first_token + packed / args.group) * args.q_stride +
                      head * head_dim + unit * 8;
      data = *reinterpret_cast<const uint4*>(from);
    }
    const std::uint32_t at = queries + static_cast<std::uint32_t>(unit / 8 * query_columns_bytes +
                                                                  row * swizzled_row_bytes +
                                                                  ((unit % 8) ^ (row % 8)) * 16);
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(data.x), "r"(data.y),
                 "r"(data.z), "r"(data.w)
                 : "memory");
  }
}

// Zeros the values at and behind `valid` keys of a tile; all consumers together.
template <int head_dim>
__device__ void clear_values(std::uint32_t values, int valid) {
  constexpr int units = head_dim / 8;
  const int thread = static_cast<int>(threadIdx.x) - warpgroup_size;
  for (int i = valid * units + thread; i < tile_keys * units; i += consumer_threads) {
    const int unit = i % units;
    const std::uint32_t at =
        values + static_cast<std::uint32_t>(unit / 8 * columns_bytes +
                                            i / units * swizzled_row_bytes + unit % 8 * 16);
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(at), "r"(0) : "memory");
  }
  fence_shared_writes();
  meet(values_barrier, consumer_threads);
}

// One of the multiplying warpgroups, `index` 0 or 1.
template <typename T, int head_dim>
__device__ void multiply(const AttentionArgs& args, const Work& work,
                         const Layout<head_dim>& layout, int index) {
  constexpr int steps = head_dim / 16;
  constexpr int dims = head_dim / 8;
  constexpr int key_units = tile_keys / 8;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) % warpgroup_size / warp_size;
  const int first_row = work.tile.row + index * group_rows;
  const std::uint32_t queries =
      layout.queries + static_cast<std::uint32_t>(index * head_dim / 64 * query_columns_bytes);
  place_queries<T, head_dim>(args, work, queries, first_row);
  fence_shared_writes();
  meet(queries_barrier + index, warpgroup_size);
  if (index == 1) meet_without_waiting(turn_barrier, consumer_threads);  // warpgroup 0 begins

  int positions[2];  // rows behind the last one follow it; they are not stored
#pragma unroll
  for (int lower = 0; lower < 2; ++lower) {
    const int row = first_row + warp * 16 + lane / 4 + 8 * lower;
    positions[lower] = work.position_of_row(args, min(row, work.rows - 1));
  }
  const int first_position = work.position_of_row(args, min(first_row, work.rows - 1));
  const int last_position = work.position_of_row(args, min(first_row + group_rows, work.rows) - 1);

  float scores[key_units][4];
  float sums[dims][4] = {};
  std::uint32_t probabilities[tile_keys / 16][4];
  RunningSoftmax softmax;

  const auto start_scores = [&](int stage) {
    const std::uint32_t keys =
        layout.keys + static_cast<std::uint32_t>(stage * Layout<head_dim>::tile_bytes);
    fence_products();
#pragma unroll
    for (int step = 0; step < steps; ++step) {
      const auto within = static_cast<std::uint32_t>(step % 4 * 32);
      const auto column = static_cast<std::uint32_t>(step / 4);
      multiply_async<T>(scores, matrix_descriptor(queries + column * query_columns_bytes + within),
                        matrix_descriptor(keys + column * columns_bytes + within), step > 0);
    }
    commit_products();
  };
  const auto start_sums = [&](int stage) {
    const std::uint32_t values =
        layout.values + static_cast<std::uint32_t>(stage * Layout<head_dim>::tile_bytes);
    fence_products();
#pragma unroll
    for (int step = 0; step < tile_keys / 16; ++step) {
      multiply_async<T>(
          sums, probabilities[step],
          matrix_descriptor(values + static_cast<std::uint32_t>(step * 16 * swizzled_row_bytes),
                            columns_bytes),
          1);
    }
    commit_products();
  };
  const auto mask_and_soften = [&](int key_tile) {
    cap_scores(scores, args);
    const int begin = work.begin_of(key_tile);
    if (begin + tile_keys - 1 > first_position || begin < args.first_key(last_position)) {
      mask_scores(scores, args, positions, begin);
    }
    return softmax.update(scores, exponent_scale(args));
  };
  const auto take_probabilities = [&]() {
#pragma unroll
    for (int step = 0; step < tile_keys / 16; ++step) {
      probabilities[step][0] = pack_two<T>(scores[2 * step][0], scores[2 * step][1]);
      probabilities[step][1] = pack_two<T>(scores[2 * step][2], scores[2 * step][3]);
      probabilities[step][2] = pack_two<T>(scores[2 * step + 1][0], scores[2 * step + 1][1]);
      probabilities[step][3] = pack_two<T>(scores[2 * step + 1][2], scores[2 * step + 1][3]);
    }
  };
  const auto release = [&](std::uint32_t barrier) {
    if (lane == 0) barrier_arrive(barrier);
  };

  Turn turn;  // of the keys; the values are one tile behind
  barrier_wait(layout.keys_full(turn.stage), turn.parity);
  meet(turn_barrier + index, consumer_threads);
  start_scores(turn.stage);
  meet_without_waiting(turn_barrier + 1 - index, consumer_threads);
  wait_products<0>();
  pin(scores);
  release(layout.keys_empty(turn.stage));
  mask_and_soften(0);
  take_probabilities();
  Turn behind = turn;
  turn.next();

  barrier_wait(layout.values_full(behind.stage), behind.parity);
  if (work.begin_of(0) + tile_keys > work.tile.kv_length) {
    clear_values<head_dim>(
        layout.values + static_cast<std::uint32_t>(behind.stage * Layout<head_dim>::tile_bytes),
        work.tile.kv_length - work.begin_of(0));
  }
  for (int key_tile = 1; key_tile < work.key_tiles; ++key_tile) {
    barrier_wait(layout.keys_full(turn.stage), turn.parity);
    meet(turn_barrier + index, consumer_threads);
    start_scores(turn.stage);
    if (key_tile > 1) barrier_wait(layout.values_full(behind.stage), behind.parity);
    start_sums(behind.stage);
    meet_without_waiting(turn_barrier + 1 - index, consumer_threads);
    wait_products<1>();
    pin(scores);
    release(layout.keys_empty(turn.stage));
    const float2 factors = mask_and_soften(key_tile);
    wait_products<0>();
    pin(sums);
    release(layout.values_empty(behind.stage));
    rescale(sums, factors);
    take_probabilities();
    behind = turn;
    turn.next();
  }
  if (work.key_tiles > 1) barrier_wait(layout.values_full(behind.stage), behind.parity);
  start_sums(behind.stage);
  wait_products<0>();
  pin(sums);
  // The turn that the other warpgroup offered last is taken, so that the barrier ends as it began.
  if (index == 0) meet(turn_barrier, consumer_threads);

  using Rows16 = KvRows<T, T, head_dim>;
#pragma unroll
  for (int lower = 0; lower < 2; ++lower) {
    const float sum = sum_of_quad(softmax.sum[lower]);
    const int row = first_row + warp * 16 + lane / 4 + 8 * lower;
    if (row >= work.rows) continue;
    const int head = static_cast<int>(blockIdx.y) * args.group + row % args.group;
    T* out = static_cast<T*>(args.out) +
             (work.tile.first_token + row / args.group) * args.out_stride + head * head_dim;
    store_output_row<T, Rows16, head_dim>(out, sums, lower, 1.0F / sum);
  }
}

// Rows that see no key: those behind the last sequence, and places that a padded batch does not
// use.
template <typename T, int head_dim>
__device__ void clear_rows(const AttentionArgs& args, const Work& work) {
  constexpr int units = head_dim / 8;
  const int rows = min(tile_rows, work.rows - work.tile.row);
  for (int i = static_cast<int>(threadIdx.x); i < rows * units; i += threads) {
    const int row = work.tile.row + i / units;
    const int head = static_cast<int>(blockIdx.y) * args.group + row % args.group;
    T* out = static_cast<T*>(args.out) +
             (work.tile.first_token + row / args.group) * args.out_stride + head * head_dim;
    *reinterpret_cast<uint4*>(out + i % units * 8) = uint4{0, 0, 0, 0};
  }
}

template <typename T, int head_dim>
__global__ void __launch_bounds__(threads, 1)
    prefill_sm90_kernel(const __grid_constant__ AttentionArgs args,
                        const __grid_constant__ CUtensorMap k_map,
                        const __grid_constant__ CUtensorMap v_map, int box_rows) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char shared[];
  const Work work(args);
  if (work.tile.sequence < 0) return;
  if (work.key_tiles == 0) return clear_rows<T, head_dim>(args, work);

  const Layout<head_dim> layout(shared);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < stages; ++stage) {
      barrier_init(layout.keys_full(stage), 1);
      barrier_init(layout.values_full(stage), 1);
      barrier_init(layout.keys_empty(stage), consumer_threads / warp_size);
      barrier_init(layout.values_empty(stage), consumer_threads / warp_size);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();

  const int group = static_cast<int>(threadIdx.x) / warpgroup_size;
  if (group == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
    if (threadIdx.x < warp_size) feed<head_dim>(args, work, layout, k_map, v_map, box_rows);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 240;");
    multiply<T, head_dim>(args, work, layout, group - 1);
  }
#endif
}

// The driver's encoder, found at run time so that the program starts where there is no driver.
using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

EncodeTiled encode_tiled() {
  static const EncodeTiled function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    cuda_check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                cudaEnableDefault, &result),
               "cudaGetDriverEntryPointByVersion");
    return result == cudaDriverEntryPointSuccess ? reinterpret_cast<EncodeTiled>(found) : nullptr;
  }();
  return function;
}

// The cache [blocks, kv_heads, block_size, head_dim] as the copy engine sees it, in boxes of
// [box_rows, 64].
CUtensorMap map_of_cache(const AttentionArgs& args, const void* cache, DType dtype, int box_rows) {
  const auto head_dim = static_cast<cuuint64_t>(args.head_dim);
  const auto block_size = static_cast<cuuint64_t>(args.block_size);
  const auto kv_heads = static_cast<cuuint64_t>(args.kv_heads);
  const cuuint64_t sizes[4] = {head_dim, block_size, kv_heads,
                               static_cast<cuuint64_t>(args.blocks)};
  const cuuint64_t row_bytes = head_dim * 2;
  const cuuint64_t strides[3] = {row_bytes, row_bytes * block_size,
                                 row_bytes * block_size * kv_heads};
  const cuuint32_t box[4] = {64, static_cast<cuuint32_t>(box_rows), 1, 1};
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result = encode_tiled()(
      &map,
      dtype == DType::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4,
      const_cast<void*>(cache), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw CudaError("cuTensorMapEncodeTiled", static_cast<cudaError_t>(result));
  }
  return map;
}

template <typename T, int head_dim>
void launch(const AttentionArgs& args, DType dtype, int box_rows, Stream stream) {
  const auto kernel = prefill_sm90_kernel<T, head_dim>;
  constexpr int bytes = shared_bytes<head_dim>();
  static thread_local bool prepared = false;
  if (!prepared) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               "cudaFuncSetAttribute");
    prepared = true;
  }
  const dim3 grid(static_cast<unsigned>(query_tile_bound(args, tile_rows)),
                  static_cast<unsigned>(args.kv_heads));
  kernel<<<grid, threads, bytes, native(stream)>>>(
      args, map_of_cache(args, args.k_cache, dtype, box_rows),
      map_of_cache(args, args.v_cache, dtype, box_rows), box_rows);
  check_launch("prefill_sm90_kernel");
}

}  // namespace

bool prefill_attention_sm90(const AttentionArgs& args, DType dtype, DType cache, Stream stream) {
  const int box_rows = std::min(args.block_size, tile_keys);
  const bool boxes_fit =
      box_rows % 8 == 0 && tile_keys % box_rows == 0 && args.block_size % box_rows == 0;
  if (compute_capability(stream.device) != 90 || cache != dtype || !boxes_fit || args.scale <= 0 ||
      encode_tiled() == nullptr) {
    return false;
  }
  if (dtype == DType::bf16 && args.head_dim == 128) {
    launch<__nv_bfloat16, 128>(args, dtype, box_rows, stream);
  } else if (dtype == DType::bf16 && args.head_dim == 64) {
    launch<__nv_bfloat16, 64>(args, dtype, box_rows, stream);
  } else if (dtype == DType::f16 && args.head_dim == 128) {
    launch<__half, 128>(args, dtype, box_rows, stream);
  } else if (dtype == DType::f16 && args.head_dim == 64) {
    launch<__half, 64>(args, dtype, box_rows, stream);
  } else {
    return false;
  }
  return true;
}

}  // namespace millrace::cuda
