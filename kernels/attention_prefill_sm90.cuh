// Prefill attention on Hopper: what its feeding warps and its multiplying warpgroups share.
//
// A block holds 128 packed query rows (attention_cuda.cuh), whole queries of one sequence and KV
// head. One warpgroup feeds queries, keys and values (attention_prefill_sm90_feed*.cuh), two of 64
// rows each multiply (attention_prefill_sm90_multiply.cuh). Blocks stay and take one piece of work
// after another (attention_prefill_sm90_work.cuh). The structure is FlashAttention-3's
// (arXiv:2407.08608).
#pragma once

#include <cstddef>

#include "kernels/attention_cuda.cuh"
#include "kernels/base/cuda_wgmma.cuh"

namespace millrace::cuda::prefill {

constexpr int consumers = 2;  // warpgroups
constexpr int group_rows = 64;
constexpr int tile_rows = consumers * group_rows;
constexpr int work_stages = 2;
constexpr int threads = (1 + consumers) * warpgroup_size;
constexpr int consumer_threads = consumers * warpgroup_size;
constexpr int consumer_warps = consumer_threads / warp_size;
constexpr int feeding_warps = warpgroup_size / warp_size;  // of an fp8 cache; else one

// What a launch knows beside the op's arguments.
struct Plan {
  int tile_queries;  // queries of a tile: as many as have their whole group of rows in it
  int box_rows;      // keys of one copy, all in one cache block
  int block_shift;   // log2 of block_size
};

// A piece of work: one tile of queries against the keys from `keys_begin` to its last query's
// position, walked from the last tile of keys to the first, so that what the causal mask cuts comes
// first.
struct Work {
  int sequence = -1;
  int first_token = 0;     // row of q and out
  int first_position = 0;  // of that query
  int rows = 0;            // packed rows that are there
  int kv_head = 0;
  int kv_length = 0;
  int keys_begin = 0;  // a multiple of a tile's keys
  int key_tiles = 0;   // 0: there is no more work

  __device__ int position_of_row(const AttentionArgs& args, int row) const {
    return first_position + row / args.group;
  }
  template <int tile_keys>
  __device__ int begin_of(int key_tile) const {
    return keys_begin + (key_tiles - 1 - key_tile) * tile_keys;
  }
};

// Where things are in shared memory. Keys, values and queries are columns of 64 dimensions, as
// cuda_wgmma.cuh has it. fp8 keys and values arrive in `raw` slots, in columns of 128 or 64 bytes,
// a quarter of a tile's keys for each feeding warp, which widens them.
template <typename Kv, int head_dim>
struct Layout {
  static constexpr bool is_fp8 = std::is_same_v<Kv, Fp8>;
  static constexpr int tile_keys = head_dim > 128 ? 64 : 128;
  static constexpr int columns = (head_dim + 63) / 64;
  static constexpr int column_bytes = tile_keys * swizzled_row_bytes;
  static constexpr int tile_bytes = columns * column_bytes;
  // Of keys and of values each: small tiles are multiplied sooner than the next ones arrive.
  static constexpr int stages = head_dim > 64 ? 2 : 4;
  static constexpr int query_column_bytes = tile_rows * swizzled_row_bytes;
  static constexpr int query_bytes = columns * query_column_bytes;
  static constexpr int feeders = is_fp8 ? feeding_warps : 1;
  static constexpr int raw_slots = !is_fp8 ? 0 : head_dim > 64 ? 2 : 4;
  static constexpr int raw_keys = tile_keys / feeding_warps;  // of one warp
  static constexpr int raw_row_bytes = head_dim % 128 == 0 ? 128 : 64;
  static constexpr int raw_columns = (head_dim + raw_row_bytes - 1) / raw_row_bytes;
  static constexpr int raw_column_bytes = raw_keys * raw_row_bytes;
  static constexpr int raw_bytes = raw_columns * raw_column_bytes;  // of one slot

  struct Barriers {
    std::uint64_t keys_full[stages], keys_empty[stages], values_full[stages], values_empty[stages];
    std::uint64_t queries_full[2], queries_empty[2];
    std::uint64_t work_full[work_stages], work_empty[work_stages];
    std::uint64_t raw_full[feeders][raw_slots + 1];
    Work work[work_stages];
  };

  static constexpr int most_bytes = 227 * 1024;  // that a block can have
  static constexpr int fixed_bytes = 1024 + 2 * stages * tile_bytes +
                                     feeding_warps * raw_slots * raw_bytes +
                                     static_cast<int>(sizeof(Barriers));
  // A second tile of queries arrives while the first is multiplied, where there is room.
  static constexpr int query_stages = fixed_bytes + 2 * query_bytes <= most_bytes ? 2 : 1;
  static constexpr int bytes = fixed_bytes + query_stages * query_bytes;
  static_assert(bytes <= most_bytes);

  std::uint32_t queries_at, keys_at, values_at, raw_at, barriers_at;
  Work* work;

  __device__ explicit Layout(unsigned char* shared) {
    const std::uint32_t start = shared_address(shared);
    queries_at = (start + 1023U) & ~1023U;
    keys_at = queries_at + query_stages * query_bytes;
    values_at = keys_at + stages * tile_bytes;
    raw_at = values_at + stages * tile_bytes;
    barriers_at = raw_at + feeding_warps * raw_slots * raw_bytes;
    work = reinterpret_cast<Barriers*>(shared + (barriers_at - start))->work;
  }
  __device__ std::uint32_t queries(int stage) const { return at(queries_at, stage, query_bytes); }
  __device__ std::uint32_t keys(int stage) const { return at(keys_at, stage, tile_bytes); }
  __device__ std::uint32_t values(int stage) const { return at(values_at, stage, tile_bytes); }
  __device__ std::uint32_t raw(int warp, int slot) const {
    return at(raw_at, warp * raw_slots + slot, raw_bytes);
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
  __device__ std::uint32_t queries_full(int stage) const {
    return barrier(offsetof(Barriers, queries_full), stage);
  }
  __device__ std::uint32_t queries_empty(int stage) const {
    return barrier(offsetof(Barriers, queries_empty), stage);
  }
  __device__ std::uint32_t work_full(int stage) const {
    return barrier(offsetof(Barriers, work_full), stage);
  }
  __device__ std::uint32_t work_empty(int stage) const {
    return barrier(offsetof(Barriers, work_empty), stage);
  }
  __device__ std::uint32_t raw_full(int warp, int slot) const {
    return barrier(offsetof(Barriers, raw_full), warp * (raw_slots + 1) + slot);
  }

  // One thread, before anybody uses the barriers.
  __device__ void init_barriers() const {
    for (int stage = 0; stage < stages; ++stage) {
      barrier_init(keys_full(stage), feeders);
      barrier_init(values_full(stage), feeders);
      barrier_init(keys_empty(stage), consumer_warps);
      barrier_init(values_empty(stage), consumer_warps);
    }
    for (int stage = 0; stage < query_stages; ++stage) {
      barrier_init(queries_full(stage), 1);
      barrier_init(queries_empty(stage), consumer_warps);
    }
    for (int stage = 0; stage < work_stages; ++stage) {
      barrier_init(work_full(stage), 1);
      barrier_init(work_empty(stage), consumer_warps + feeders - 1);
    }
    for (int warp = 0; warp < feeders; ++warp) {
      for (int slot = 0; slot < raw_slots; ++slot) barrier_init(raw_full(warp, slot), 1);
    }
    fence_barrier_init();
  }

 private:
  static __device__ std::uint32_t at(std::uint32_t base, int index, int size) {
    return base + static_cast<std::uint32_t>(index * size);
  }
  __device__ std::uint32_t barrier(std::size_t offset, int index) const {
    return at(barriers_at + static_cast<std::uint32_t>(offset), index, 8);
  }
};

// The stage in use of a ring of `count`, and the parity of its current phase.
template <int count>
struct Turn {
  int stage = 0;
  int parity = 0;

  __device__ void next() {
    if (++stage == count) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// Takes the next piece of work from the warp that hands it out. One lane reads it for its warp:
// whoever reads also says that it has been read.
template <typename Layout>
__device__ Work take_work(const Layout& layout, Turn<work_stages>& turn) {
  barrier_wait(layout.work_full(turn.stage), turn.parity);
  Work work;
  if (threadIdx.x % warp_size == 0) {
    work = layout.work[turn.stage];
    barrier_arrive(layout.work_empty(turn.stage));
  }
  const auto from_reader = [](int value) { return __shfl_sync(0xffffffffU, value, 0); };
  work.sequence = from_reader(work.sequence);
  work.first_token = from_reader(work.first_token);
  work.first_position = from_reader(work.first_position);
  work.rows = from_reader(work.rows);
  work.kv_head = from_reader(work.kv_head);
  work.kv_length = from_reader(work.kv_length);
  work.keys_begin = from_reader(work.keys_begin);
  work.key_tiles = from_reader(work.key_tiles);
  turn.next();
  return work;
}

}  // namespace millrace::cuda::prefill
