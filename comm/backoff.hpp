// How a thread waits for another process: it yields for a moment, since most answers come within
// microseconds, then sleeps, since a machine may run more ranks than it has cores. Sleeps grow with
// the time waited so far, so that the answer is seen at most an eighth of that too late.
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
      : longest_sleep_(longest_sleep), yielding_(yielding), start_(Clock::now()) {}

  void pause() {
    const auto waited =
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start_);
    if (waited < yielding_) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(std::min(waited / 8, longest_sleep_));
    }
  }

 private:
  std::chrono::microseconds longest_sleep_;
  std::chrono::microseconds yielding_;
  Clock::time_point start_;
};

}  // namespace millrace
