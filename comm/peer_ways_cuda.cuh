// The ways of our own kernels behind one name. A block works on one row: it writes this rank's part
// of the row to the others, waits for theirs, adds. Blocks wait only for the blocks of the same row
// on other GPUs, which are started in the same order, so they need not all be resident at once; and
// with hundreds of rows under way the links are busy while single blocks wait.
#pragma once

#include "comm/peer_shots_cuda.cuh"
#include "comm/peer_words_cuda.cuh"

namespace millrace::cuda {

// held = its sum over the ranks; rows of a call are `row_bytes` apart.
template <ReduceWay way, int ranks, typename Op, typename T>
__device__ __forceinline__ void sum_over_ranks(HeldRow<T>& held, std::int64_t row,
                                               std::int64_t row_bytes, const Peers& peers) {
  const PeerLayout layout(peers.size);
  const PeerCall call = begin_call(peers, layout);
  if constexpr (way == ReduceWay::words) {
    sum_by_words<ranks, Op>(held, row, row_bytes, peers, layout, call);
  } else if constexpr (way == ReduceWay::one_shot) {
    sum_in_one_shot<ranks, Op>(held, row, row_bytes, peers, layout, call);
  } else {
    sum_in_two_shots<ranks, Op>(held, row, row_bytes, peers, layout, call);
  }
}

// Calls body with the way and the number of ranks that the kernel is unrolled for as constants.
template <typename Body>
void with_way(ReduceWay way, int size, Body&& body) {
  using Two = std::integral_constant<int, 2>;
  using Many = std::integral_constant<int, max_peers>;
  if (way == ReduceWay::words) {
    const std::integral_constant<ReduceWay, ReduceWay::words> words;
    if (size == 2) return body(words, Two());
    return body(words, Many());
  }
  if (way == ReduceWay::one_shot) {
    const std::integral_constant<ReduceWay, ReduceWay::one_shot> one_shot;
    if (size == 2) return body(one_shot, Two());
    return body(one_shot, Many());
  }
  return body(std::integral_constant<ReduceWay, ReduceWay::two_shot>(), Many());
}

}  // namespace millrace::cuda
