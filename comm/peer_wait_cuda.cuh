// How kernels of different GPUs wait for each other: numbers that a rank writes into another's
// memory, ordered at system scope (PTX memory model: a release by one thread after a barrier of its
// block covers the block's stores).
#pragma once

#include <cstdint>

#include "comm/peers.hpp"
#include "kernels/base/cuda_types.cuh"

namespace millrace::cuda {

// A day: longer than --watchdog lets a job stand still, which is the one to say so, and than a job
// is suspended for, while which this clock goes on.
constexpr unsigned long long peer_patience_nanoseconds = 24ULL * 3600 * 1000 * 1000 * 1000;

__device__ __forceinline__ void store_release(std::uint32_t* to, std::uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

__device__ __forceinline__ void store_release(std::uint64_t* to, std::uint64_t value) {
  asm volatile("st.release.sys.global.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}

__device__ __forceinline__ std::uint64_t load_acquire(const std::uint64_t* from) {
  std::uint64_t value;
  asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(value) : "l"(from) : "memory");
  return value;
}

__device__ __forceinline__ std::uint32_t load_acquire(const std::uint32_t* from) {
  std::uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

// What a waiting thread does once in many looks: ends the kernel when there is no hope left.
// Returns when the waiting began.
__device__ __noinline__ inline unsigned long long consider_waiting(unsigned long long begin,
                                                                   PeerAlarm* alarm, int rank) {
  unsigned long long now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  const bool stopped = alarm->stop != 0;
  if (!stopped && (begin == 0 || now - begin < peer_patience_nanoseconds)) {
    return begin == 0 ? now : begin;
  }
  if (!stopped) alarm->silent_rank = static_cast<std::uint32_t>(rank) + 1;
  __threadfence_system();
  __trap();
  return begin;
}

// Counts the looks that found nothing.
class Patience {
 public:
  __device__ __forceinline__ void look(PeerAlarm* alarm, int rank) {
    if (++looks_ % 1024 == 0) begin_ = consider_waiting(begin_, alarm, rank);
  }

 private:
  unsigned looks_ = 0;
  unsigned long long begin_ = 0;
};

// Waits until the number at `from`, which `rank` writes, is `value`.
template <typename Number>
__device__ __forceinline__ void wait_for(const Number* from, Number value, PeerAlarm* alarm,
                                         int rank) {
  Patience patience;
  while (load_acquire(from) != value) patience.look(alarm, rank);
}

}  // namespace millrace::cuda
