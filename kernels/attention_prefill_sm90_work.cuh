// How prefill attention on Hopper cuts a batch into pieces of work.
#pragma once

#include "kernels/attention_prefill_sm90.cuh"

namespace millrace::cuda::prefill {

// Pieces of work, as one warp hands them out: the tiles of queries from the last of the last
// sequence on, since the last tiles of a prompt see the most keys, each for every KV head. Blocks
// take them from a counter. Rows that see no key (those behind the last sequence, and places that a
// padded batch does not use) are zeroed on the way.
template <typename T, int head_dim, int tile_keys>
class WorkSource {
 public:
  __device__ WorkSource(const AttentionArgs& args, const Plan& plan, unsigned* counter)
      : args_(args), plan_(plan), counter_(counter) {}

  // Before the first piece.
  __device__ void start() {
    int tiles = 0;
    for (int base = args_.sequences; base >= args_.decode_sequences; base -= warp_size) {
      look_at(base);
      tiles += tiles_;
    }
    pieces_ = __reduce_add_sync(0xffffffffU, tiles) * args_.kv_heads;
    if (args_.sequences - args_.decode_sequences >= warp_size) look_at(args_.sequences);
    sum_tiles();
  }

  __device__ Work next() {
    while (true) {
      const int piece = __shfl_sync(0xffffffffU, upcoming_, 0);
      if (piece >= pieces_) return {};
      // Asked for now, needed later. Blocks that have a first piece ask until they are told of one
      // too many, `pieces_` times in all, after which the counter is back at zero.
      if (lane() == 0) {
        upcoming_ =
            static_cast<int>(gridDim.x + atomicInc(counter_, static_cast<unsigned>(pieces_) - 1));
      }
      const Work work = find(piece / args_.kv_heads, piece % args_.kv_heads);
      if (work.key_tiles > 0) return work;
      clear_rows(work);
    }
  }

 private:
  static __device__ int lane() { return static_cast<int>(threadIdx.x) % warp_size; }

  // Every lane its own sequence, from `base` down. The one behind the last has the rows that belong
  // to none.
  __device__ void look_at(int base) {
    base_ = base;
    const int sequence = base - lane();
    tiles_ = 0;
    if (sequence < args_.decode_sequences) return;
    const bool real = sequence < args_.sequences;
    begin_ = args_.query_starts[sequence];
    queries_ = (real ? args_.query_starts[sequence + 1] : args_.tokens) - begin_;
    kv_length_ = real ? args_.kv_lengths[sequence] : 0;
    tiles_ = (queries_ + plan_.tile_queries - 1) / plan_.tile_queries;
  }

  __device__ void sum_tiles() {
    through_ = tiles_;
#pragma unroll
    for (int step = 1; step < warp_size; step *= 2) {
      const int before = __shfl_up_sync(0xffffffffU, through_, step);
      if (lane() >= step) through_ += before;
    }
  }

  // The tile with `index` tiles after it. Indices never fall from call to call, so sequences are
  // gone through once.
  __device__ Work find(int index, int kv_head) {
    const auto from = [](int value, int lane) { return __shfl_sync(0xffffffffU, value, lane); };
    while (index - passed_ >= from(through_, warp_size - 1)) {
      passed_ += from(through_, warp_size - 1);
      look_at(base_ - warp_size);
      sum_tiles();
    }
    const int holder =
        __ffs(static_cast<int>(__ballot_sync(0xffffffffU, index - passed_ < through_))) - 1;
    const int tile = from(through_, holder) - 1 - (index - passed_);
    const int first_query = tile * plan_.tile_queries;
    const int queries = from(queries_, holder);
    Work work;
    work.sequence = base_ - holder;
    work.first_token = from(begin_, holder) + first_query;
    work.kv_length = from(kv_length_, holder);
    work.first_position = work.kv_length - queries + first_query;
    const int here = min(plan_.tile_queries, queries - first_query);
    work.rows = here * args_.group;
    work.kv_head = kv_head;
    if (work.kv_length > 0) {
      work.keys_begin = args_.first_key(work.first_position) / tile_keys * tile_keys;
      work.key_tiles = (work.first_position + here - work.keys_begin + tile_keys - 1) / tile_keys;
    }
    return work;
  }

  __device__ void clear_rows(const Work& work) const {
    constexpr int units = head_dim / 8;
    for (int i = lane(); i < work.rows * units; i += warp_size) {
      const int row = i / units;
      const int head = work.kv_head * args_.group + row % args_.group;
      T* out = static_cast<T*>(args_.out) +
               (work.first_token + row / args_.group) * args_.out_stride + head * head_dim;
      *reinterpret_cast<uint4*>(out + i % units * 8) = uint4{0, 0, 0, 0};
    }
  }

  const AttentionArgs& args_;
  const Plan& plan_;
  unsigned* counter_;
  int pieces_ = 0;
  int upcoming_ = static_cast<int>(blockIdx.x);
  int passed_ = 0;  // tiles of sequences above base_
  int base_ = 0;
  int begin_ = 0, queries_ = 0, kv_length_ = 0, tiles_ = 0;  // of this lane's sequence
  int through_ = 0;                                          // tiles from base_ to it
};

template <typename Layout>
__device__ void hand_out(const Layout& layout, Turn<work_stages>& turn, const Work& work) {
  barrier_wait(layout.work_empty(turn.stage), turn.parity ^ 1);
  if (threadIdx.x % warp_size == 0) {
    layout.work[turn.stage] = work;
    barrier_arrive(layout.work_full(turn.stage));
  }
  turn.next();
}

}  // namespace millrace::cuda::prefill
