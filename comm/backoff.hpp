// How a thread waits for another process: it yields for a moment, since most answers come within
// microseconds, then sleeps ever longer, since a machine may run more ranks than it has cores.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace millrace {

class Backoff {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Backoff(std::chrono::microseconds longest_sleep,
                   std::chrono::microseconds yielding = std::chrono::microseconds(200))
      : longest_sleep_(longest_sleep), yield_until_(Clock::now() + yielding) {}

  void pause() {
    if (Clock::now() < yield_until_) {
      sched_yield();
      return;
    }
    std::this_thread::sleep_for(sleep_);
    sleep_ = std::min(sleep_ * 2, longest_sleep_);
  }

 private:
  std::chrono::microseconds longest_sleep_;
  Clock::time_point yield_until_;
  std::chrono::microseconds sleep_{20};
};

}  // namespace millrace
