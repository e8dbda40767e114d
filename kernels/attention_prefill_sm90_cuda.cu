// Prefill attention on Hopper, head_dim 64 and 128, a cache of the queries' type.
//
// A block holds 128 packed query rows (attention_cuda.cuh). One warp feeds keys and values, 128 at
// a time, by the tensor copy engine: a box for every cache block and 64 dimensions, the block table
// giving the coordinate. Two warpgroups of 64 rows each multiply. Within a warpgroup the scores
// of a tile are multiplied while the previous tile's probabilities still meet their values. The
// structure is FlashAttention-3's (arXiv:2407.08608).
#include <algorithm>
#include <bit>

#include "kernels/attention_cuda.cuh"
#include "kernels/base/cuda_scratch.hpp"
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

// Whether named barriers make the warpgroups multiply in turns, so that one's exponentials run
// under the other's products. Measured on an H100 at 8,192 keys: 431 against 381 TFLOP/s at
// head_dim 64, where exponentials weigh most; 481 against 516 at 128.
__host__ __device__ constexpr bool takes_turns(int head_dim) { return head_dim < 128; }

// Named barriers; 0 belongs to __syncthreads.
constexpr int queries_barrier = 1;  // and 2: a warpgroup's queries are in place
constexpr int turn_barrier = 3;     // and 4: a warpgroup's turn to multiply
constexpr int values_barrier = 5;   // the last tile's missing values are zero

// What the feeding warp tells the others. Two places, so that it can run ahead.
struct WorkPlace {
  QueryTile tile;
  int kv_head;
};

struct Barriers {
  std::uint64_t keys_full[stages], keys_empty[stages], values_full[stages], values_empty[stages];
  std::uint64_t work_full[stages], work_empty[stages];
  WorkPlace work[stages];
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
  WorkPlace* places;

  __device__ explicit Layout(unsigned char* shared) {
    const std::uint32_t start = shared_address(shared);
    queries = (start + 1023U) & ~1023U;
    keys = queries + columns * consumers * query_columns_bytes;
    values = keys + stages * tile_bytes;
    barriers = values + stages * tile_bytes;
    places = reinterpret_cast<Barriers*>(shared + (barriers - start))->work;
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
  __device__ std::uint32_t work_full(int stage) const {
    return barrier(offsetof(Barriers, work_full), stage);
  }
  __device__ std::uint32_t work_empty(int stage) const {
    return barrier(offsetof(Barriers, work_empty), stage);
  }
  __device__ WorkPlace& work(int stage) const { return places[stage]; }
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

// A piece of work: one tile of queries against keys [keys_begin, keys_end), walked from the last
// tile of keys to the first, so that what the causal mask cuts comes first.
struct Work {
  QueryTile tile;
  int kv_head, rows, keys_begin, keys_end, key_tiles;

  __device__ Work(const AttentionArgs& args, const WorkPlace& place)
      : tile(place.tile), kv_head(place.kv_head), rows(place.tile.queries * args.group) {
    const int last_row = min(tile.row + tile_rows, rows) - 1;
    keys_end = tile.kv_length == 0 ? 0 : position_of_row(args, last_row) + 1;
    keys_begin = args.first_key(position_of_row(args, tile.row)) / tile_keys * tile_keys;
    key_tiles = tile.kv_length == 0 ? 0 : (keys_end - keys_begin + tile_keys - 1) / tile_keys;
  }
  __device__ int position_of_row(const AttentionArgs& args, int row) const {
    return tile.kv_length - tile.queries + row / args.group;
  }
  __device__ int begin_of(int key_tile) const {
    return keys_begin + (key_tiles - 1 - key_tile) * tile_keys;
  }
};

// The cache's blocks as the feeding warp needs them: block_size is a power of two.
struct Boxes {
  int rows;         // keys of one copy, all in one cache block
  int block_shift;  // log2 of block_size
};

// The feeding warp.
template <int head_dim>
__device__ void feed(const AttentionArgs& args, const Layout<head_dim>& layout,
                     const CUtensorMap& k_map, const CUtensorMap& v_map, Boxes boxes,
                     unsigned* counter) {
  constexpr int columns = head_dim / 64;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int query_tiles = count_query_tiles(args, tile_rows);
  const int pieces = query_tiles * args.kv_heads;
  // A lane copies the same box of every tile of keys; there are at most 32.
  const bool copies = lane < tile_keys / boxes.rows * columns;
  const int row = lane / columns * boxes.rows;
  const int column = lane % columns;
  const auto box_at = static_cast<std::uint32_t>(column * columns_bytes + row * swizzled_row_bytes);
  Turn turn;
  Turn work_turn;
  while (true) {
    int piece = 0;
    // Every block takes one piece too many, after which the counter is back at zero.
    if (lane == 0) {
      piece = static_cast<int>(atomicInc(counter, static_cast<unsigned>(pieces) + gridDim.x - 1));
    }
    piece = __shfl_sync(0xffffffffU, piece, 0);
    WorkPlace place{};
    if (piece < pieces) {
      // The last tiles of a prompt see the most keys: they go first.
      place.tile = find_query_tile(args, query_tiles - 1 - piece / args.kv_heads, tile_rows);
      place.kv_head = piece % args.kv_heads;
    }
    barrier_wait(layout.work_empty(work_turn.stage), work_turn.parity ^ 1);
    if (lane == 0) {
      layout.work(work_turn.stage) = place;
      barrier_arrive(layout.work_full(work_turn.stage));
    }
    work_turn.next();
    if (place.tile.sequence < 0) return;

    const Work work(args, place);
    const std::int32_t* table =
        args.block_tables + min(place.tile.sequence, args.sequences - 1) * args.table_stride;
    // Behind the last key any block will do: its scores are masked, its values made zero.
    const auto key_of = [&](int key_tile) {
      return min(work.begin_of(key_tile) + row, place.tile.kv_length - 1);
    };
    int block = work.key_tiles > 0 ? table[key_of(0) >> boxes.block_shift] : 0;
    for (int key_tile = 0; key_tile < work.key_tiles; ++key_tile) {
      const int offset = key_of(key_tile) & ((1 << boxes.block_shift) - 1) & ~(boxes.rows - 1);
      const auto copy_tile = [&](std::uint32_t to, const CUtensorMap& map, std::uint32_t full,
                                 std::uint32_t empty) {
        barrier_wait(empty, turn.parity ^ 1);  // at first there is nothing to wait for
        if (lane == 0) barrier_expect(full, Layout<head_dim>::tile_bytes);
        __syncwarp();
        if (copies) {
          copy_box(to + box_at, map, full, column * 64, offset, place.kv_head, block);
        }
      };
      const int next_block =
          key_tile + 1 < work.key_tiles ? table[key_of(key_tile + 1) >> boxes.block_shift] : 0;
      const auto stage_bytes =
          static_cast<std::uint32_t>(turn.stage * Layout<head_dim>::tile_bytes);
      copy_tile(layout.keys + stage_bytes, k_map, layout.keys_full(turn.stage),
                layout.keys_empty(turn.stage));
      copy_tile(layout.values + stage_bytes, v_map, layout.values_full(turn.stage),
                layout.values_empty(turn.stage));
      block = next_block;
      turn.next();
    }
  }
}

// A thread's part of a warpgroup's queries on their way from memory to shared memory.
template <typename T, int head_dim>
struct QueryCopy {
  static constexpr int units = head_dim / 8;  // of 16 bytes, in a row
  static constexpr int count = group_rows * units / warpgroup_size;
  uint4 data[count];

  __device__ void load(const AttentionArgs& args, const Work& work, int first_row) {
    const int thread = static_cast<int>(threadIdx.x) % warpgroup_size;
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const int row = first_row + (i * warpgroup_size + thread) / units;
      const int unit = (i * warpgroup_size + thread) % units;
      data[i] = {0, 0, 0, 0};
      if (row < work.rows) {
        const int head = work.kv_head * args.group + row % args.group;
        const T* from = static_cast<const T*>(args.q) +
                        (work.tile.first_token + row / args.group) * args.q_stride +
                        head * head_dim + unit * 8;
        data[i] = *reinterpret_cast<const uint4*>(from);
      }
    }
  }
  __device__ void store(std::uint32_t queries) const {
    const int thread = static_cast<int>(threadIdx.x) % warpgroup_size;
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const int row = (i * warpgroup_size + thread) / units;
      const int unit = (i * warpgroup_size + thread) % units;
      const std::uint32_t at = queries + static_cast<std::uint32_t>(unit / 8 * query_columns_bytes +
                                                                    row * swizzled_row_bytes +
                                                                    ((unit % 8) ^ (row % 8)) * 16);
      asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(data[i].x),
                   "r"(data[i].y), "r"(data[i].z), "r"(data[i].w)
                   : "memory");
    }
  }
};

// Takes the next piece of work from the feeding warp. One lane reads it for its warp: whoever reads
// also says that it has been read.
__device__ inline WorkPlace take_work(const WorkPlace& place, std::uint32_t full,
                                      std::uint32_t empty, int parity) {
  barrier_wait(full, parity);
  WorkPlace taken{};
  if (threadIdx.x % warp_size == 0) {
    taken = place;
    barrier_arrive(empty);
  }
  const auto from_reader = [](int value) { return __shfl_sync(0xffffffffU, value, 0); };
  taken.tile.sequence = from_reader(taken.tile.sequence);
  taken.tile.row = from_reader(taken.tile.row);
  taken.tile.first_token = from_reader(taken.tile.first_token);
  taken.tile.queries = from_reader(taken.tile.queries);
  taken.tile.kv_length = from_reader(taken.tile.kv_length);
  taken.kv_head = from_reader(taken.kv_head);
  return taken;
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

// One piece of work of a multiplying warpgroup, `index` 0 or 1, whose queries are in place.
// `turn` is the stage of the next keys. look_ahead() runs while the last products do.
template <typename T, int head_dim, typename LookAhead>
__device__ void multiply(const AttentionArgs& args, const Work& work,
                         const Layout<head_dim>& layout, int index, Turn& turn,
                         LookAhead&& look_ahead) {
  constexpr int steps = head_dim / 16;
  constexpr int dims = head_dim / 8;
  constexpr int key_units = tile_keys / 8;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) % warpgroup_size / warp_size;
  const int first_row = work.tile.row + index * group_rows;
  const std::uint32_t queries =
      layout.queries + static_cast<std::uint32_t>(index * head_dim / 64 * query_columns_bytes);
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

  barrier_wait(layout.keys_full(turn.stage), turn.parity);
  if (takes_turns(head_dim)) meet(turn_barrier + index, consumer_threads);
  start_scores(turn.stage);
  if (takes_turns(head_dim)) meet_without_waiting(turn_barrier + 1 - index, consumer_threads);
  wait_products<0>();
  pin(scores);
  release(layout.keys_empty(turn.stage));
  mask_and_soften(0);
  take_probabilities();
  Turn behind = turn;  // of the values, one tile behind the keys
  turn.next();

  barrier_wait(layout.values_full(behind.stage), behind.parity);
  if (work.begin_of(0) + tile_keys > work.tile.kv_length) {
    clear_values<head_dim>(
        layout.values + static_cast<std::uint32_t>(behind.stage * Layout<head_dim>::tile_bytes),
        work.tile.kv_length - work.begin_of(0));
  }
  for (int key_tile = 1; key_tile < work.key_tiles; ++key_tile) {
    barrier_wait(layout.keys_full(turn.stage), turn.parity);
    if (takes_turns(head_dim)) meet(turn_barrier + index, consumer_threads);
    start_scores(turn.stage);
    if (key_tile > 1) barrier_wait(layout.values_full(behind.stage), behind.parity);
    start_sums(behind.stage);
    if (takes_turns(head_dim)) meet_without_waiting(turn_barrier + 1 - index, consumer_threads);
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
  look_ahead();
  wait_products<0>();
  pin(sums);
  release(layout.values_empty(behind.stage));

  using Rows16 = KvRows<T, T, head_dim>;
#pragma unroll
  for (int lower = 0; lower < 2; ++lower) {
    const float sum = sum_of_quad(softmax.sum[lower]);
    const int row = first_row + warp * 16 + lane / 4 + 8 * lower;
    if (row >= work.rows) continue;
    const int head = work.kv_head * args.group + row % args.group;
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
  const int thread = static_cast<int>(threadIdx.x) - warpgroup_size;
  for (int i = thread; i < rows * units; i += consumer_threads) {
    const int row = work.tile.row + i / units;
    const int head = work.kv_head * args.group + row % args.group;
    T* out = static_cast<T*>(args.out) +
             (work.tile.first_token + row / args.group) * args.out_stride + head * head_dim;
    *reinterpret_cast<uint4*>(out + i % units * 8) = uint4{0, 0, 0, 0};
  }
}

template <typename T, int head_dim>
__device__ void consume(const AttentionArgs& args, const Layout<head_dim>& layout, int index) {
  const std::uint32_t queries =
      layout.queries + static_cast<std::uint32_t>(index * head_dim / 64 * query_columns_bytes);
  Turn turn;
  Turn work_turn;
  WorkPlace place;
  QueryCopy<T, head_dim> copy;
  const auto take_next = [&] {
    place = take_work(layout.work(work_turn.stage), layout.work_full(work_turn.stage),
                      layout.work_empty(work_turn.stage), work_turn.parity);
    work_turn.next();
    if (place.tile.sequence >= 0) {
      copy.load(args, Work(args, place), place.tile.row + index * group_rows);
    }
  };
  if (takes_turns(head_dim) && index == 1)
    meet_without_waiting(turn_barrier, consumer_threads);  // warpgroup 0 begins
  take_next();
  while (place.tile.sequence >= 0) {
    const Work work(args, place);
    if (work.key_tiles == 0) {
      clear_rows<T, head_dim>(args, work);
      take_next();
      continue;
    }
    copy.store(queries);
    fence_shared_writes();
    meet(queries_barrier + index, warpgroup_size);
    multiply<T, head_dim>(args, work, layout, index, turn, take_next);
  }
  // The turn that warpgroup 1 offered last is taken, so that the barrier ends as it began.
  if (takes_turns(head_dim) && index == 0) meet(turn_barrier, consumer_threads);
}

template <typename T, int head_dim>
__global__ void __launch_bounds__(threads, 1)
    prefill_sm90_kernel(const __grid_constant__ AttentionArgs args,
                        const __grid_constant__ CUtensorMap k_map,
                        const __grid_constant__ CUtensorMap v_map, Boxes boxes, unsigned* counter) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char shared[];
  const Layout<head_dim> layout(shared);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < stages; ++stage) {
      barrier_init(layout.keys_full(stage), 1);
      barrier_init(layout.values_full(stage), 1);
      barrier_init(layout.work_full(stage), 1);
      barrier_init(layout.keys_empty(stage), consumer_threads / warp_size);
      barrier_init(layout.values_empty(stage), consumer_threads / warp_size);
      barrier_init(layout.work_empty(stage), consumer_threads / warp_size);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();

  const int group = static_cast<int>(threadIdx.x) / warpgroup_size;
  if (group == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x < warp_size) feed<head_dim>(args, layout, k_map, v_map, boxes, counter);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    consume<T, head_dim>(args, layout, group - 1);
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
void launch(const AttentionArgs& args, DType dtype, Boxes boxes, Stream stream) {
  const auto kernel = prefill_sm90_kernel<T, head_dim>;
  constexpr int bytes = shared_bytes<head_dim>();
  static thread_local bool prepared = false;
  if (!prepared) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               "cudaFuncSetAttribute");
    prepared = true;
  }
  const std::int64_t pieces = query_tile_bound(args, tile_rows) * args.kv_heads;
  const auto grid =
      static_cast<unsigned>(std::min<std::int64_t>(pieces, multiprocessor_count(stream.device)));
  kernel<<<grid, threads, bytes, native(stream)>>>(
      args, map_of_cache(args, args.k_cache, dtype, boxes.rows),
      map_of_cache(args, args.v_cache, dtype, boxes.rows), boxes,
      reinterpret_cast<unsigned*>(zeroed_counters(stream)));
  check_launch("prefill_sm90_kernel");
}

}  // namespace

bool prefill_attention_sm90(const AttentionArgs& args, DType dtype, DType cache, Stream stream) {
  const auto block_size = static_cast<unsigned>(args.block_size);
  if (compute_capability(stream.device) != 90 || cache != dtype || block_size < 8 ||
      !std::has_single_bit(block_size) || args.scale <= 0 || args.softcap > 0 ||
      encode_tiled() == nullptr) {
    return false;
  }
  const Boxes boxes{std::min(args.block_size, tile_keys), std::countr_zero(block_size)};
  if (dtype == DType::bf16 && args.head_dim == 128) {
    launch<__nv_bfloat16, 128>(args, dtype, boxes, stream);
  } else if (dtype == DType::bf16 && args.head_dim == 64) {
    launch<__nv_bfloat16, 64>(args, dtype, boxes, stream);
  } else if (dtype == DType::f16 && args.head_dim == 128) {
    launch<__half, 128>(args, dtype, boxes, stream);
  } else if (dtype == DType::f16 && args.head_dim == 64) {
    launch<__half, 64>(args, dtype, boxes, stream);
  } else {
    return false;
  }
  return true;
}

}  // namespace millrace::cuda
