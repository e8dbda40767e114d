// Time since the process was started: loading a binary and MPI's start belong to what a user waits
// for.
#pragma once

#include <chrono>

#include "core/job/host_resources.hpp"

namespace millrace {

class JobClock {
 public:
  JobClock()
      : start_(std::chrono::steady_clock::now() -
               std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                   std::chrono::duration<double>(seconds_since_start()))) {}

  std::chrono::steady_clock::time_point start() const { return start_; }
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_;
};

}  // namespace millrace
