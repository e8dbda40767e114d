// Whether the job was asked to stop before its end, as all its ranks know it. The watchdog writes
// it: a signal on any rank, or the end of the job's time, reaches every rank within a second.
#pragma once

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>

namespace millrace {

// After the grace a job has so long to write down what it has and to leave; then it is ended.
inline constexpr double closing_seconds = 10;

// Thrown on all ranks alike, out of work that is not worth finishing. Not a failure: run_main turns
// it into exit_code::stopped.
class Stopped : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class StopRequest {
 public:
  using Clock = std::chrono::steady_clock;

  // Any thread.
  bool is_made() const { return made_.load(std::memory_order_acquire); }
  // The request is made, and the time to finish what runs is over.
  bool is_overdue() const { return is_made() && Clock::now() >= deadline_; }
  // "SIGUSR1 on rank 3", "the time limit"; once it is made.
  const std::string& reason() const { return reason_; }
  void throw_if_made() const {
    if (is_made()) throw Stopped(reason_);
  }
  void throw_if_overdue() const {
    if (is_overdue()) throw Stopped(reason_);
  }

  // One thread, once.
  void make(const std::string& reason, double grace_seconds) {
    reason_ = reason;
    deadline_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                   std::chrono::duration<double>(grace_seconds));
    made_.store(true, std::memory_order_release);
  }

 private:
  std::atomic<bool> made_ = false;
  std::string reason_;
  Clock::time_point deadline_;
};

}  // namespace millrace
