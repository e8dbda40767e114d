// How a warp of decode attention brings tiles of keys and values into its ring of shared memory by
// Hopper's tensor copy engine: one lane asks for a tile in a few instructions, where 32 lanes would
// compute addresses and copy 16 bytes at a time.
#pragma once

#include "kernels/attention_decode_tile.cuh"
#include "kernels/base/cuda_wgmma.cuh"

namespace millrace::cuda::decode {

// Caches as [blocks, kv_heads, block_size, head_dim] in boxes of [1, 1, tile_keys, a column of
// TileRows].
struct CacheMaps {
  CUtensorMap k, v;
};

// What the cache holds behind a sequence's end is copied too.
template <typename Kv, int head_dim, int slots>
class BoxCopies {
 public:
  using Rows = TileRows<Kv, head_dim, true>;
  using Maps = CacheMaps;
  static constexpr int column_elements = Rows::column_bytes / static_cast<int>(sizeof(Kv));

  __device__ BoxCopies(std::uint32_t ring, std::uint32_t barriers, const Maps& maps)
      : ring_(ring), barriers_(barriers), maps_(maps), read_once_(evict_first_policy()) {
    if (static_cast<int>(threadIdx.x) % warp_size == 0) {
      for (int slot = 0; slot < slots; ++slot) barrier_init(barrier(slot), 1);
      fence_barrier_init();
    }
    __syncwarp();
  }

  __device__ __forceinline__ void load(const AttentionArgs& args, int slot, Cursor& cursor) {
    const Cursor::Place place = cursor.place(args);
    if (!elect_lane()) return;
    const std::uint32_t to = ring_ + static_cast<std::uint32_t>(slot * Rows::tile_bytes);
    barrier_expect(barrier(slot), Rows::tile_bytes);
#pragma unroll
    for (int column = 0; column < Rows::columns; ++column) {
      const std::uint32_t at =
          to + static_cast<std::uint32_t>(column * tile_keys * Rows::column_bytes);
      copy_box_once(at, maps_.k, barrier(slot), column * column_elements, place.offset,
                    cursor.kv_head, place.block, read_once_);
      copy_box_once(at + Rows::bytes, maps_.v, barrier(slot), column * column_elements,
                    place.offset, cursor.kv_head, place.block, read_once_);
    }
  }

  __device__ __forceinline__ void commit() {}

  __device__ __forceinline__ void wait(int slot) {
    barrier_wait(barrier(slot), phase_);
    if (slot == slots - 1) phase_ ^= 1;
  }
  __device__ __forceinline__ void commit_others() { commit_copies(); }
  __device__ __forceinline__ void wait_others() { wait_copies<0>(); }

  // Values behind the sequence's end may be anything, and zero times anything is not always zero.
  __device__ __forceinline__ void clear_values(int slot, int valid) {
    const int lane = static_cast<int>(threadIdx.x) % warp_size;
    const std::uint32_t values =
        ring_ + static_cast<std::uint32_t>(slot * Rows::tile_bytes + Rows::bytes);
    constexpr int units_of_column = Rows::column_bytes / 16;
#pragma unroll 1
    for (int unit = lane; unit < (tile_keys - valid) * Rows::units; unit += warp_size) {
      const int column = unit % Rows::units / units_of_column;
      store_zeros(values + Rows::place(valid + unit / Rows::units, unit % units_of_column) +
                  static_cast<std::uint32_t>(column * tile_keys * Rows::column_bytes));
    }
    fence_shared_writes();  // the copy engine will write there next
    __syncwarp();
  }

 private:
  __device__ std::uint32_t barrier(int slot) const {
    return barriers_ + static_cast<std::uint32_t>(slot * sizeof(std::uint64_t));
  }

  static __device__ void store_zeros(std::uint32_t to) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(to), "r"(0) : "memory");
  }

  std::uint32_t ring_, barriers_;
  const Maps& maps_;
  std::uint64_t read_once_;
  int phase_ = 0;  // of the slots in this turn around the ring
};

}  // namespace millrace::cuda::decode
