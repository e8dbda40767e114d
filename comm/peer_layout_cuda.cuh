// The memory of a rank that sums by kernels: counters, then two halves, which calls take in turn.
// A half holds the rows' flags, the area of words and the area of rows; every other rank has a part
// of each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "comm/peers.hpp"
#include "comm/reduce_way.hpp"

namespace millrace::cuda {

constexpr std::size_t peer_half_bytes = 32U << 20U;
constexpr std::size_t peer_words_bytes = 512U << 10U;  // of one rank's data, in one call
constexpr std::int64_t peer_max_rows = 4096;           // in one call

struct PeerCounters {
  std::uint32_t call;
  std::uint32_t readers;
};

struct PeerLayout {
  int others;

  __host__ __device__ explicit PeerLayout(int ranks) : others(ranks - 1) {}
  // Of each other rank, and one more of a row's owner.
  __host__ __device__ std::size_t flags_bytes() const {
    return peer_max_rows * static_cast<std::size_t>(others + 1) * sizeof(std::uint32_t);
  }
  __host__ __device__ std::size_t words_part() const { return 2 * peer_words_bytes; }
  __host__ __device__ std::size_t words_begin() const { return flags_bytes(); }
  __host__ __device__ std::size_t rows_begin() const {
    return words_begin() + words_part() * static_cast<std::size_t>(others);
  }
  __host__ __device__ std::size_t rows_part() const {
    return peer_half_bytes / static_cast<std::size_t>(others) / 256 * 256;
  }
  // Two-shot: the sums lie in the second half of the area of rows.
  __host__ __device__ std::size_t owned_part() const { return rows_part() / 2 / 256 * 256; }
  __host__ __device__ std::size_t sums_begin() const { return rows_begin() + peer_half_bytes / 2; }
  __host__ __device__ std::size_t half() const { return rows_begin() + peer_half_bytes; }
  __host__ __device__ std::size_t all() const { return 256 + 2 * half(); }

  // Rows of one call.
  std::int64_t rows_at_once(ReduceWay way, std::int64_t row_bytes) const {
    const auto fit = [&](std::size_t bytes) {
      return static_cast<std::int64_t>(bytes) / row_bytes;
    };
    std::int64_t rows = 0;
    if (way == ReduceWay::words) {
      rows = fit(peer_words_bytes);
    } else if (way == ReduceWay::one_shot) {
      rows = fit(rows_part());
    } else {
      rows = std::min(fit(owned_part()) * (others + 1), fit(peer_half_bytes / 2));
    }
    return std::min(rows, peer_max_rows);
  }
};

// One call's view of the memory.
struct PeerCall {
  std::size_t half;  // where this call's half begins
  std::uint32_t number;
};

// Every block learns the call's number; the last one to do so moves the count on. A number is never
// 0, which is what untouched memory holds, and its last bit says which half.
__device__ inline PeerCall begin_call(const Peers& peers, const PeerLayout& layout) {
  __shared__ std::uint32_t shared_number;
  if (threadIdx.x == 0) {
    auto* counters = reinterpret_cast<PeerCounters*>(peers.bases[peers.rank]);
    const std::uint32_t last = *static_cast<volatile std::uint32_t*>(&counters->call);
    const std::uint32_t number = last + 1 == 0 ? 2 : last + 1;
    __threadfence();
    if (atomicInc(&counters->readers, gridDim.x - 1) == gridDim.x - 1) {
      *static_cast<volatile std::uint32_t*>(&counters->call) = number;
    }
    shared_number = number;
  }
  __syncthreads();
  const std::uint32_t number = shared_number;
  return {256 + (number & 1U) * layout.half(), number};
}

// Where rank `from`'s part of an area lies in rank `to`'s memory.
__host__ __device__ __forceinline__ int part_of(int from, int to) {
  return from < to ? from : from - 1;
}

// The flags of a row: of the other ranks' parts, then of its sum.
__device__ __forceinline__ std::uint32_t* flags_of(std::byte* base, const PeerCall& call,
                                                   const PeerLayout& layout, std::int64_t row) {
  return reinterpret_cast<std::uint32_t*>(base + call.half) + row * (layout.others + 1);
}

}  // namespace millrace::cuda
