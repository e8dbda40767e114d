// The progress of all replicas, shown by rank 0: every leader sends its counters now and then, and
// rank 0 adds them up. On threads and a communicator of its own, so that no replica waits for
// another.
#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "comm/comm.hpp"
#include "core/io/progress.hpp"
#include "core/job/job_clock.hpp"

namespace millrace {

class ProgressBoard {
 public:
  // Collective over `leaders`. `counters` is called on the board's thread. `log_seconds`: between
  // lines when stderr is no terminal; 0: nothing is ever printed.
  ProgressBoard(const Comm& leaders, std::int64_t prompt_bytes, double log_seconds,
                const JobClock& clock, std::function<ProgressCounters()> counters);
  // This replica is done. On rank 0 the board stays until every replica is, unless the stack
  // unwinds.
  ~ProgressBoard();
  ProgressBoard(const ProgressBoard&) = delete;
  ProgressBoard& operator=(const ProgressBoard&) = delete;

 private:
  void run();
  void send(bool last);
  void receive();

  Comm comm_;
  std::int64_t prompt_bytes_;
  double log_seconds_;
  const JobClock& clock_;
  std::function<ProgressCounters()> counters_;
  std::vector<ProgressCounters> latest_;  // of each replica; on rank 0
  int done_ = 0;                          // replicas that sent their last counters; on rank 0
  std::atomic<bool> finishing_ = false;
  std::atomic<bool> abandoned_ = false;
  std::thread thread_;
};

}  // namespace millrace
