// The feeding side of prefill attention on Hopper with an fp8 cache: four warps copy tiles of keys
// and values as they are and widen them, which is exact, into the f16 tiles that are multiplied.
#pragma once

#include "kernels/attention_prefill_sm90_feed.cuh"

namespace millrace::cuda::prefill {

// Widens a warp's quarter of a tile, fp8 rows at `raw`, into f16 rows from `first_row` on of the
// columns at `to`. Rows at and beyond `valid` become zeros. A lane has one row, so that swizzling
// spreads what eight lanes read or write at once over all banks.
template <int head_dim>
__device__ __forceinline__ void widen(std::uint32_t raw, std::uint32_t to, int first_row,
                                      int valid) {
  using Tiles = Layout<Fp8, head_dim>;
  constexpr int lanes_a_row = warp_size / Tiles::raw_keys;
  constexpr int units = head_dim / 16 / lanes_a_row;  // of 16 dimensions, for a lane
  constexpr int units_a_column = Tiles::raw_row_bytes / 16;
  constexpr int most = 4;  // units on their way at once
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int row = lane % Tiles::raw_keys;
  const int share = lane / Tiles::raw_keys;
  // With two lanes a row, each has one of the two raw columns and two of the four wide ones.
  const std::uint32_t from =
      raw +
      static_cast<std::uint32_t>(share * Tiles::raw_column_bytes + row * Tiles::raw_row_bytes +
                                 (units_a_column == 8 ? row % 8 : row / 2 % 4) * 16);
  to += static_cast<std::uint32_t>(share * 2 * Tiles::column_bytes +
                                   (first_row + row) * swizzled_row_bytes + row % 8 * 16);
  const auto raw_unit = [&](int unit) {
    return (from ^ static_cast<std::uint32_t>(unit % units_a_column * 16)) +
           static_cast<std::uint32_t>(unit / units_a_column * Tiles::raw_column_bytes);
  };
  if (row >= valid) {
#pragma unroll
    for (int unit = 0; unit < units; ++unit) {
      asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(raw_unit(unit)), "r"(0)
                   : "memory");
    }
  }
#pragma unroll
  for (int begin = 0; begin < units; begin += most) {
    std::uint32_t fp8[most][4];
#pragma unroll
    for (int i = 0; i < most && begin + i < units; ++i) {
      asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(fp8[i][0]), "=r"(fp8[i][1]), "=r"(fp8[i][2]), "=r"(fp8[i][3])
                   : "r"(raw_unit(begin + i)));
    }
#pragma unroll
    for (int i = 0; i < 2 * most && begin + i / 2 < units; ++i) {
      const std::uint32_t low = fp8[i / 2][i % 2 * 2];
      const std::uint32_t high = fp8[i / 2][i % 2 * 2 + 1];
      const int unit = begin * 2 + i;
      const std::uint32_t at = (to ^ static_cast<std::uint32_t>(unit % 8 * 16)) +
                               static_cast<std::uint32_t>(unit / 8 * Tiles::column_bytes);
      asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(fp8_to_half2(low)),
                   "r"(fp8_to_half2(low >> 16)), "r"(fp8_to_half2(high)),
                   "r"(fp8_to_half2(high >> 16))
                   : "memory");
    }
  }
}

// One of the feeding warps of an fp8 cache. Each copies its own quarter of every tile of keys and
// values into its own slots, running ahead of itself, and widens it from there. The first also
// hands out the work. What a warp may wait for while it has copies that it has not widened: the
// next piece of work. Nobody needs those copies to get there, since a piece has two tiles at least.
template <typename T, int head_dim>
__device__ void feed_fp8(const AttentionArgs& args, const Plan& plan,
                         const Layout<Fp8, head_dim>& layout, const Maps& maps, unsigned* counter) {
  using Tiles = Layout<Fp8, head_dim>;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const bool hands_out = warp == 0;
  const bool copies = lane < Tiles::raw_keys / plan.box_rows * Tiles::raw_columns;
  const int row = warp * Tiles::raw_keys;
  const int box_row = lane / Tiles::raw_columns * plan.box_rows;  // behind `row`
  const int column = lane % Tiles::raw_columns;
  WorkSource<T, head_dim, Tiles::tile_keys> source(args, plan, counter);
  if (hands_out) source.start();

  // Tiles of keys and values in turns: what is copied next, and what was widened last.
  Work work;
  BoxWalk boxes{};
  int key_tile = 0;
  int copied = 0;
  int widened = 0;
  bool more = true;
  Turn<Tiles::stages> turn;
  Turn<work_stages> work_turn;
  Turn<Tiles::query_stages> query_turn;
  // Of the tile in slot `lane`: rows of it that are keys, and the queries that its piece begins
  // with; -1 for a tile that is not its first.
  int slot_valid = 0;
  int slot_token = 0;
  int slot_head = 0;

  const auto copy_next = [&] {
    const bool values = copied % 2 == 1;
    if (key_tile == work.key_tiles) {
      if (hands_out) {
        work = source.next();
        hand_out(layout, work_turn, work);
      } else {
        work = take_work(layout, work_turn);
      }
      key_tile = 0;
      more = work.key_tiles > 0;
      if (!more) return;
      boxes = boxes_of(args, work);
    }
    const int begin = work.template begin_of<Tiles::tile_keys>(key_tile);
    if (!values) boxes.block = boxes.look_up(begin + row + box_row, plan);
    const int slot = copied % Tiles::raw_slots;
    if (lane == slot) {
      slot_valid = work.kv_length - begin - row;
      slot_token = key_tile == 0 && !values ? work.first_token : -1;
      slot_head = work.kv_head;
    }
    const std::uint32_t full = layout.raw_full(warp, slot);
    if (lane == 0) barrier_expect(full, Tiles::raw_bytes);
    __syncwarp();
    if (copies) {
      copy_box(
          layout.raw(warp, slot) + static_cast<std::uint32_t>(column * Tiles::raw_column_bytes +
                                                              box_row * Tiles::raw_row_bytes),
          values ? maps.v : maps.k, full, column * Tiles::raw_row_bytes,
          boxes.offset(begin + row + box_row, plan), work.kv_head, boxes.block);
    }
    ++copied;
    if (values) ++key_tile;
  };
  const auto widen_next = [&] {
    const bool values = widened % 2 == 1;
    const int slot = widened % Tiles::raw_slots;
    const auto of_slot = [&](int value) { return __shfl_sync(0xffffffffU, value, slot); };
    barrier_wait(values ? layout.values_empty(turn.stage) : layout.keys_empty(turn.stage),
                 turn.parity ^ 1);
    barrier_wait(layout.raw_full(warp, slot), widened / Tiles::raw_slots % 2);
    widen<head_dim>(layout.raw(warp, slot),
                    values ? layout.values(turn.stage) : layout.keys(turn.stage), row,
                    of_slot(slot_valid));
    fence_shared_writes();
    __syncwarp();
    if (lane == 0) {
      barrier_arrive(values ? layout.values_full(turn.stage) : layout.keys_full(turn.stage));
    }
    const int first_token = of_slot(slot_token);
    if (hands_out && first_token >= 0) {
      copy_queries(args, plan, layout, maps, query_turn, first_token, of_slot(slot_head));
    }
    if (values) turn.next();
    ++widened;
  };
  while (true) {
    while (more && copied - widened < Tiles::raw_slots) copy_next();
    if (copied == widened) return;
    widen_next();
  }
}

}  // namespace millrace::cuda::prefill
