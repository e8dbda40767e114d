// How decode attention's work is cut.
//
// A pair is (sequence, unit); a unit is a KV head, and which 16 of its query heads when it has
// more. All pairs' keys are one long list of tiles of 16 keys, in order of sequence, unit and key.
// Every warp on the device takes an equal share of that list, whatever the sequences' lengths are.
// The cut is made on the device from kv_lengths, so a captured graph serves any lengths. (The even
// split over streaming multiprocessors is known as stream-K, arXiv:2301.03598.)
#pragma once

#include "kernels/attention_cuda.cuh"

namespace millrace::cuda::decode {

constexpr int tile_keys = 16;
constexpr int tile_rows = 16;    // query heads of a group that a warp takes at once
constexpr int column_heads = 8;  // query heads in one matrix product
constexpr int warps = 4;
constexpr int threads = warps * warp_size;
constexpr int least_tiles = 4;  // of a warp's share: less is not worth combining

__device__ __forceinline__ int begin_tile(const AttentionArgs& args, int length) {
  return args.first_key(length - 1) / tile_keys;
}

__device__ __forceinline__ int end_tile(int length) { return (length + tile_keys - 1) / tile_keys; }

__device__ __forceinline__ int tile_count(const AttentionArgs& args, int length) {
  return length <= 0 ? 0 : end_tile(length) - begin_tile(args, length);
}

__device__ __forceinline__ int row_tiles(const AttentionArgs& args) {
  return (args.group + tile_rows - 1) / tile_rows;
}

// The list of all tiles.
struct TileList {
  const int* before;   // shared, [threads]: a unit's tiles of sequences before thread t's
  int sequences_each;  // that a thread counted
  int units;
  std::int64_t tiles;
};

// The whole block counts; before: shared, [threads].
__device__ inline TileList count_tiles(const AttentionArgs& args, int* before) {
  __shared__ int warp_totals[warps];
  const int thread = static_cast<int>(threadIdx.x);
  const int each = (args.sequences + threads - 1) / threads;
  int own = 0;
#pragma unroll 4
  for (int i = 0; i < each; ++i) {
    const int sequence = thread * each + i;
    own += sequence < args.sequences ? tile_count(args, args.kv_lengths[sequence]) : 0;
  }
  const int through = warp_sum_through(own);
  if (thread % warp_size == warp_size - 1) warp_totals[thread / warp_size] = through;
  __syncthreads();
  int total = 0;
  int others = 0;
#pragma unroll
  for (int w = 0; w < warps; ++w) {
    if (w < thread / warp_size) others += warp_totals[w];
    total += warp_totals[w];
  }
  before[thread] = others + through - own;
  __syncthreads();
  const int units = args.kv_heads * row_tiles(args);
  return {before, each, units, static_cast<std::int64_t>(total) * units};
}

// Share w holds tiles [first_tile(w), first_tile(w + 1)). Shares are dealt in order, the last share
// to the first block: a warp only ever waits for later shares, which warps before it in its block
// or blocks before its own have. All blocks fit on the device at once
// (attention_decode_launch.cuh), so those run too.
struct Split {
  std::int64_t tiles;
  int shares;

  __device__ Split(const TileList& list)
      : tiles(list.tiles),
        shares(static_cast<int>(min(static_cast<std::int64_t>(gridDim.x) * warps,
                                    (list.tiles + least_tiles - 1) / least_tiles))) {}

  __device__ std::int64_t first_tile(int share) const { return share * tiles / shares; }

  __device__ int share_of_tile(std::int64_t tile) const {
    return static_cast<int>(((tile + 1) * shares - 1) / tiles);
  }

  // The calling warp's; -1 for none. Few shares are spread over all blocks.
  __device__ int own_share() const {
    const int block = static_cast<int>(blockIdx.x);
    const int warp = static_cast<int>(threadIdx.x) / warp_size;
    const int each = shares / static_cast<int>(gridDim.x);
    const int extra = shares % static_cast<int>(gridDim.x);
    if (warp >= each + (block < extra ? 1 : 0)) return -1;
    return shares - 1 - (block * each + min(block, extra) + warp);
  }
};

// A place in the list of tiles. Its warp walks together: the lanes hold the lengths of 32 sequences
// and the places of 32 tiles, so that few steps wait for memory.
class Cursor {
 public:
  int sequence = 0, unit = 0, tile = 0, length = 0;
  int kv_head = 0;

  __device__ Cursor(const AttentionArgs& args, const TileList& list, std::int64_t position)
      : units_(list.units) {
    // The last thread whose sequences begin at or before the position has it.
    int low = 0;
    int high = threads - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (static_cast<std::int64_t>(list.before[middle]) * units_ <= position) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    int passed = list.before[low];
    for (know_lengths(args, low * list.sequences_each);; know_lengths(args, known_ + warp_size)) {
      const int count = tile_count(args, known_length_);
      const int through = warp_sum_through(count);
      const unsigned holders = __ballot_sync(
          0xffffffffU, static_cast<std::int64_t>(passed + through) * units_ > position);
      if (holders != 0) {
        const int holder = __ffs(static_cast<int>(holders)) - 1;
        enter(args, known_ + holder);
        passed += __shfl_sync(0xffffffffU, through - count, holder);
        const int tiles = end_tile_ - tile;
        const auto within = static_cast<int>(position - static_cast<std::int64_t>(passed) * units_);
        unit = within / tiles;
        kv_head = unit / row_tiles(args);
        tile += within % tiles;
        return;
      }
      passed += __shfl_sync(0xffffffffU, through, warp_size - 1);
    }
  }

  // One tile on; the list must not end there.
  __device__ void advance(const AttentionArgs& args) {
    if (++tile < end_tile_) return;
    if (++unit < units_) {
      kv_head = unit / row_tiles(args);
      return enter(args, sequence);
    }
    unit = 0;
    kv_head = 0;
    int next = sequence;
    do {
      if (++next == known_ + warp_size) know_lengths(args, next);
    } while (__shfl_sync(0xffffffffU, known_length_, next - known_) <= 0);
    enter(args, next);
  }

  __device__ bool is_first(const AttentionArgs& args) const {
    return tile == begin_tile(args, length);
  }

  // The tile that holds the key that this step wrote.
  __device__ bool is_newest() const { return tile + 1 == end_tile_; }

  // Where in the cache the tile's keys are.
  struct Place {
    int block, offset;  // of the first key within its block
  };

  __device__ Place place(const AttentionArgs& args) {
    if (sequence != table_.sequence || tile < table_.tile || tile >= table_.tile + warp_size) {
      if (sequence != next_table_.sequence || tile != next_table_.tile) {
        next_table_ = look_up(args, sequence, tile);
      }
      table_ = next_table_;
      offset_ = (tile + static_cast<int>(threadIdx.x) % warp_size) * tile_keys % args.block_size;
      look_ahead(args);
    }
    const int lane = tile - table_.tile;
    return {__shfl_sync(0xffffffffU, table_.block, lane),
            args.block_size == tile_keys ? 0 : __shfl_sync(0xffffffffU, offset_, lane)};
  }

 private:
  __device__ void know_lengths(const AttentionArgs& args, int first) {
    const int own = first + static_cast<int>(threadIdx.x) % warp_size;
    known_ = first;
    known_length_ = own < args.sequences ? args.kv_lengths[own] : 0;
  }

  __device__ void enter(const AttentionArgs& args, int next) {
    sequence = next;
    length = __shfl_sync(0xffffffffU, known_length_, next - known_);
    tile = begin_tile(args, length);
    end_tile_ = end_tile(length);
  }

  // The blocks of 32 tiles of a sequence, one a lane.
  struct Table {
    int sequence, tile, block;
  };

  // Entries behind the sequence's last tell nothing, but are there to be read.
  __device__ static Table look_up(const AttentionArgs& args, int sequence, int tile) {
    const int key = (tile + static_cast<int>(threadIdx.x) % warp_size) * tile_keys;
    const int entry = min(key / args.block_size, args.table_width - 1);
    return {sequence, tile, args.block_tables[sequence * args.table_stride + entry]};
  }

  // Reads the part of a table that will be wanted after this one.
  __device__ void look_ahead(const AttentionArgs& args) {
    if (tile + warp_size < end_tile_) {
      next_table_ = look_up(args, sequence, tile + warp_size);
    } else if (const int begin = begin_tile(args, length); begin < tile && unit + 1 < units_) {
      next_table_ = look_up(args, sequence, begin);
    } else if (const int next = sequence + 1; next < min(known_ + warp_size, args.sequences)) {
      const int next_length = __shfl_sync(0xffffffffU, known_length_, next - known_);
      if (next_length > 0) next_table_ = look_up(args, next, begin_tile(args, next_length));
    }
  }

  int units_;
  int end_tile_ = 0;
  int known_ = 0;         // the lanes have the lengths of 32 sequences from this one on
  int known_length_ = 0;  // 0 behind the last sequence
  Table table_{-1, 0, 0};
  Table next_table_{-1, 0, 0};
  int offset_ = 0;  // of the lane's tile in table_
};

}  // namespace millrace::cuda::decode
