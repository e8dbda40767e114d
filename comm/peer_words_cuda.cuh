// Each rank writes all it has to all others, a flag beside every 4 bytes: one trip through the
// link, twice the bytes.
#pragma once

#include "comm/peer_sum_cuda.cuh"
#include "comm/peer_wait_cuda.cuh"

namespace millrace::cuda {

__device__ __forceinline__ void store_words(std::byte* to, uint4 data, std::uint32_t flag) {
  const auto word = [&](std::uint32_t value) {
    return static_cast<unsigned long long>(flag) << 32U | value;
  };
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(word(data.x)),
               "l"(word(data.y))
               : "memory");
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(to + 16), "l"(word(data.z)),
               "l"(word(data.w))
               : "memory");
}

struct Words {
  unsigned long long at[4];

  __device__ __forceinline__ bool carry(std::uint32_t flag) const {
    return (at[0] >> 32U) == flag && (at[1] >> 32U) == flag && (at[2] >> 32U) == flag &&
           (at[3] >> 32U) == flag;
  }
  __device__ __forceinline__ uint4 data() const {
    return {static_cast<unsigned>(at[0]), static_cast<unsigned>(at[1]),
            static_cast<unsigned>(at[2]), static_cast<unsigned>(at[3])};
  }
};

__device__ __forceinline__ Words load_words(const std::byte* from) {
  Words words;
  asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(words.at[0]), "=l"(words.at[1])
               : "l"(from)
               : "memory");
  asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(words.at[2]), "=l"(words.at[3])
               : "l"(from + 16)
               : "memory");
  return words;
}

// held = its sum over the ranks.
template <int ranks, typename Op, typename T>
__device__ __forceinline__ void sum_by_words(HeldRow<T>& held, std::int64_t row,
                                             std::int64_t row_bytes, const Peers& peers,
                                             const PeerLayout& layout, const PeerCall& call) {
  std::byte* own = peers.bases[peers.rank];
  const std::size_t begin =
      call.half + layout.words_begin() + static_cast<std::size_t>(2 * row * row_bytes);
  for (int r = 1; r < peers.size; ++r) {
    const int to = (peers.rank + r) % peers.size;  // not all to the same one at once
    std::byte* there = peers.bases[to] + begin +
                       static_cast<std::size_t>(part_of(peers.rank, to)) * layout.words_part();
#pragma unroll
    for (int p = 0; p < peer_packs; ++p) {
      if (held.has(p)) store_words(there + 2 * held.offset(p), held.bits(p), call.number);
    }
  }
#pragma unroll
  for (int p = 0; p < peer_packs; ++p) {
    if (!held.has(p)) continue;
    const auto place = [&](int r) {
      return own + begin + static_cast<std::size_t>(part_of(r, peers.rank)) * layout.words_part() +
             2 * held.offset(p);
    };
    Words words[ranks];
#pragma unroll
    for (int r = 0; r < ranks; ++r) {
      if (r < peers.size && r != peers.rank) words[r] = load_words(place(r));
    }
    Accumulator<T, Op> sum;
#pragma unroll
    for (int r = 0; r < ranks; ++r) {
      if (r >= peers.size) break;
      if (r == peers.rank) {
        sum.add(held.bits(p), r == 0);
        continue;
      }
      Patience patience;
      while (!words[r].carry(call.number)) {
        patience.look(peers.alarm, r);
        words[r] = load_words(place(r));
      }
      sum.add(words[r].data(), r == 0);
    }
    held.packs[p] = sum.result();
  }
}

}  // namespace millrace::cuda
