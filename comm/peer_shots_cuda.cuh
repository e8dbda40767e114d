// One-shot: each rank writes all it has to all others, and a flag for every row. Two-shot: each row
// goes to one rank, which adds and hands the sum out.
#pragma once

#include "comm/peer_sum_cuda.cuh"
#include "comm/peer_wait_cuda.cuh"

namespace millrace::cuda {

// held = its sum over the ranks.
template <int ranks, typename Op, typename T>
__device__ __forceinline__ void sum_in_one_shot(HeldRow<T>& held, std::int64_t row,
                                                std::int64_t row_bytes, const Peers& peers,
                                                const PeerLayout& layout, const PeerCall& call) {
  const auto thread = static_cast<int>(threadIdx.x);
  std::byte* own = peers.bases[peers.rank];
  const std::size_t begin =
      call.half + layout.rows_begin() + static_cast<std::size_t>(row * row_bytes);
  for (int r = 1; r < peers.size; ++r) {
    const int to = (peers.rank + r) % peers.size;  // not all to the same one at once
    held.store(peers.bases[to] + begin +
               static_cast<std::size_t>(part_of(peers.rank, to)) * layout.rows_part());
  }
  __syncthreads();
  if (thread < peers.size && thread != peers.rank) {
    store_release(flags_of(peers.bases[thread], call, layout, row) + part_of(peers.rank, thread),
                  call.number);
    wait_for(flags_of(own, call, layout, row) + part_of(thread, peers.rank), call.number,
             peers.alarm, thread);
  }
  __syncthreads();
  held.template add_parts<ranks, Op>(own + begin, layout.rows_part(), peers);
}

// As above. Ranks own rows in turn, so neighbouring blocks use different links.
template <int ranks, typename Op, typename T>
__device__ __forceinline__ void sum_in_two_shots(HeldRow<T>& held, std::int64_t row,
                                                 std::int64_t row_bytes, const Peers& peers,
                                                 const PeerLayout& layout, const PeerCall& call) {
  const auto thread = static_cast<int>(threadIdx.x);
  const int owner = static_cast<int>(row % peers.size);
  std::byte* own = peers.bases[peers.rank];
  std::uint32_t* own_flags = flags_of(own, call, layout, row);
  const std::size_t begin =
      call.half + layout.rows_begin() + static_cast<std::size_t>(row / peers.size * row_bytes);
  const std::size_t sum_at =
      call.half + layout.sums_begin() + static_cast<std::size_t>(row * row_bytes);
  if (peers.rank != owner) {
    const int part = part_of(peers.rank, owner);
    held.store(peers.bases[owner] + begin + static_cast<std::size_t>(part) * layout.owned_part());
    __syncthreads();
    if (thread == 0) {
      store_release(flags_of(peers.bases[owner], call, layout, row) + part, call.number);
      wait_for(own_flags + layout.others, call.number, peers.alarm, owner);
    }
    __syncthreads();
    held.load_written(own + sum_at);
    return;
  }
  if (thread < peers.size && thread != peers.rank) {
    wait_for(own_flags + part_of(thread, peers.rank), call.number, peers.alarm, thread);
  }
  __syncthreads();
  held.template add_parts<ranks, Op>(own + begin, layout.owned_part(), peers);
  for (int r = 1; r < peers.size; ++r) {
    held.store(peers.bases[(peers.rank + r) % peers.size] + sum_at);
  }
  __syncthreads();
  if (thread < peers.size && thread != peers.rank) {
    store_release(flags_of(peers.bases[thread], call, layout, row) + layout.others, call.number);
  }
}

}  // namespace millrace::cuda
