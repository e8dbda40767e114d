// How a warp of decode attention brings tiles of keys and values into its ring of shared memory by
// copies of 16 bytes a lane, which every device since sm_80 has. (Hopper's tensor copy engine:
// attention_decode_sm90_feed.cuh.)
#pragma once

#include "kernels/attention_decode_tile.cuh"

namespace millrace::cuda::decode {

struct NoMaps {};

// Keys behind the sequence's end are zeros.
template <typename Kv, int head_dim, int slots>
class LaneCopies {
 public:
  using Rows = TileRows<Kv, head_dim, false>;
  using Maps = NoMaps;

  // ring: the warp's, of slots * Rows::tile_bytes. barriers: 8 bytes a slot; not used here.
  __device__ LaneCopies(std::uint32_t ring, std::uint32_t barriers, const Maps& maps)
      : ring_(ring), read_once_(evict_first_policy()) {
    static_cast<void>(barriers);
    static_cast<void>(maps);
  }

  __device__ __forceinline__ void load(const AttentionArgs& args, int slot, Cursor& cursor) {
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    const Cursor::Place place = cursor.place(args);
    const std::int64_t row =
        (static_cast<std::int64_t>(place.block) * args.kv_heads + cursor.kv_head) *
            args.block_size +
        place.offset;
    const std::int64_t from = row * Rows::row_bytes + lane * 16;
    const unsigned char* keys = static_cast<const unsigned char*>(args.k_cache) + from;
    const unsigned char* values = static_cast<const unsigned char*>(args.v_cache) + from;
    const int valid_keys = cursor.length - cursor.tile * tile_keys;
    const std::uint32_t to = ring_ + static_cast<std::uint32_t>(slot * Rows::tile_bytes);
    constexpr int all_units = Rows::units * tile_keys;
#pragma unroll
    for (int i = 0; i < all_units; i += warp_size) {
      const int unit = i + lane;
      if (all_units % warp_size == 0 || unit < all_units) {
        const int key = unit / Rows::units;
        const std::uint32_t at = to + Rows::place(key, unit % Rows::units);
        copy_async_once(at, keys + i * 16, key < valid_keys, read_once_);
        copy_async_once(at + Rows::bytes, values + i * 16, key < valid_keys, read_once_);
      }
    }
  }

  // Behind every load, and behind the lack of one: waiting counts them.
  __device__ __forceinline__ void commit() { commit_copies(); }

  // Waits for the oldest load, of this slot, and for what was copied before it.
  __device__ __forceinline__ void wait(int slot) {
    static_cast<void>(slot);
    wait_copies<slots - 1>();
    __syncwarp();
  }
  // For copy_async() between load() and commit(), which is of that load's group.
  __device__ __forceinline__ void commit_others() {}
  __device__ __forceinline__ void wait_others() { wait_copies<slots - 1>(); }

  // Of a tile's keys only the first `valid` are there; nothing to do here.
  __device__ __forceinline__ void clear_values(int slot, int valid) {
    static_cast<void>(slot);
    static_cast<void>(valid);
  }

 private:
  std::uint32_t ring_;
  std::uint64_t read_once_;
};

}  // namespace millrace::cuda::decode
