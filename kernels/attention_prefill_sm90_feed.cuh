// The feeding side of prefill attention on Hopper: queries, keys and values on their way to shared
// memory by the tensor copy engine, the block table giving the coordinates. A 16-bit cache's tiles
// arrive as they are multiplied; for fp8 see attention_prefill_sm90_feed_fp8.cuh.
#pragma once

#include "kernels/attention_prefill_sm90_work.cuh"

namespace millrace::cuda::prefill {

struct Maps {
  CUtensorMap q;     // [tokens, heads, head_dim], boxes [tile_queries, group, 64]
  CUtensorMap k, v;  // [blocks, kv_heads, block_size, head_dim], boxes [1, 1, box_rows, 64]; of
                     // fp8 as Layout has its raw rows
};

// A tile of queries, rows [first_token, + tile_queries) of the group's heads; what it has beyond
// the sequence is never looked at.
template <typename Layout, int count>
__device__ void copy_queries(const AttentionArgs& args, const Plan& plan, const Layout& layout,
                             const Maps& maps, Turn<count>& turn, int first_token, int kv_head) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  barrier_wait(layout.queries_empty(turn.stage), turn.parity ^ 1);
  const std::uint32_t full = layout.queries_full(turn.stage);
  if (lane == 0) {
    barrier_expect(full, Layout::columns * plan.tile_queries * args.group * swizzled_row_bytes);
  }
  __syncwarp();
  if (lane < Layout::columns) {
    copy_box(
        layout.queries(turn.stage) + static_cast<std::uint32_t>(lane * Layout::query_column_bytes),
        maps.q, full, lane * 64, kv_head * args.group, first_token);
  }
  turn.next();
}

// Which box of a tile of keys a lane copies, and where that lies in the cache.
struct BoxWalk {
  const std::int32_t* table;
  int last_key;  // behind it any block will do: scores are masked there, and values made zero
  int block = 0;

  __device__ int key(int first) const { return min(first, last_key); }
  __device__ int look_up(int first, const Plan& plan) const {
    return table[key(first) >> plan.block_shift];
  }
  __device__ int offset(int first, const Plan& plan) const {
    return key(first) & ((1 << plan.block_shift) - 1) & ~(plan.box_rows - 1);
  }
};

__device__ inline BoxWalk boxes_of(const AttentionArgs& args, const Work& work) {
  return {args.block_tables + work.sequence * args.table_stride, work.kv_length - 1};
}

// The one feeding warp of a 16-bit cache.
template <typename T, int head_dim>
__device__ void feed(const AttentionArgs& args, const Plan& plan, const Layout<T, head_dim>& layout,
                     const Maps& maps, unsigned* counter) {
  using Tiles = Layout<T, head_dim>;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  // A lane copies the same box of every tile of keys; there are at most 32.
  const bool copies = lane < Tiles::tile_keys / plan.box_rows * Tiles::columns;
  const int row = lane / Tiles::columns * plan.box_rows;
  const int column = lane % Tiles::columns;
  const auto box_at =
      static_cast<std::uint32_t>(column * Tiles::column_bytes + row * swizzled_row_bytes);
  WorkSource<T, head_dim, Tiles::tile_keys> source(args, plan, counter);
  source.start();
  Turn<Tiles::stages> turn;
  Turn<work_stages> work_turn;
  Turn<Tiles::query_stages> query_turn;
  while (true) {
    const Work work = source.next();
    hand_out(layout, work_turn, work);
    if (work.key_tiles == 0) return;

    const auto key_of = [&](int key_tile) {
      return work.template begin_of<Tiles::tile_keys>(key_tile) + row;
    };
    BoxWalk boxes = boxes_of(args, work);
    boxes.block = boxes.look_up(key_of(0), plan);
    for (int key_tile = 0; key_tile < work.key_tiles; ++key_tile) {
      const int offset = boxes.offset(key_of(key_tile), plan);
      const auto copy_tile = [&](std::uint32_t to, const CUtensorMap& map, std::uint32_t full,
                                 std::uint32_t empty) {
        barrier_wait(empty, turn.parity ^ 1);  // at first there is nothing to wait for
        if (lane == 0) barrier_expect(full, Tiles::tile_bytes);
        __syncwarp();
        if (copies)
          copy_box(to + box_at, map, full, column * 64, offset, work.kv_head, boxes.block);
      };
      copy_tile(layout.keys(turn.stage), maps.k, layout.keys_full(turn.stage),
                layout.keys_empty(turn.stage));
      if (key_tile == 0) {
        copy_queries(args, plan, layout, maps, query_turn, work.first_token, work.kv_head);
      }
      const int next_block =
          key_tile + 1 < work.key_tiles ? boxes.look_up(key_of(key_tile + 1), plan) : 0;
      copy_tile(layout.values(turn.stage), maps.v, layout.values_full(turn.stage),
                layout.values_empty(turn.stage));
      boxes.block = next_block;
      turn.next();
    }
  }
}

}  // namespace millrace::cuda::prefill
