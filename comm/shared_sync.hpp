// A counter that one process raises and others, on the same host, wait for. A waiter spins and
// yields for some microseconds, then sleeps in the kernel until it is woken: a machine may run more
// ranks than it has cores, and a rank may wait for long. Lives in shared memory; zero bytes are a
// valid one.
#pragma once

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <ctime>

namespace millrace {

class alignas(64) SharedCounter {
 public:
  // The counter wraps; values are compared by their distance, which stays far below 2^31.
  std::uint32_t value() const { return value_.load(std::memory_order_acquire); }
  bool has_reached(std::uint32_t target) const {
    return static_cast<std::int32_t>(value() - target) >= 0;
  }

  // What was written before is seen by whoever sees the new value. Called by one process only.
  void raise_to(std::uint32_t value) {
    value_.store(value, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) != 0) {
      syscall(SYS_futex, &value_, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
    }
  }

  void wait_for(std::uint32_t target) {
    if (has_reached(target)) return;
    const auto start = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - start < std::chrono::microseconds(50)) {
      for (int i = 0; i < 10; ++i) {
        if (has_reached(target)) return;
        sched_yield();
      }
    }
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (true) {
      const std::uint32_t seen = value_.load(std::memory_order_seq_cst);
      if (static_cast<std::int32_t>(seen - target) >= 0) break;
      const timespec at_most{1, 0};  // a process that died wakes nobody: look again now and then
      syscall(SYS_futex, &value_, FUTEX_WAIT, seen, &at_most, nullptr, 0);
    }
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }

 private:
  std::atomic<std::uint32_t> value_;
  std::atomic<std::uint32_t> sleepers_;
  static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
};

}  // namespace millrace
