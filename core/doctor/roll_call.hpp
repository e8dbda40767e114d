// Checks that cannot hang: each has a time limit, and when it is over the job ends with the names
// of the ranks that have not come through.
#pragma once

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "comm/comm.hpp"

namespace millrace {

class RollCall {
 public:
  // One check, from here to the end of its object's life. Collective over `world`. When some rank
  // is not through after `limit_seconds`, rank 0 prints the line and ends the job with exit code 1.
  RollCall(const Comm& world, std::string check, double limit_seconds);
  // This rank is through. On rank 0 waits for the others, except while the stack unwinds.
  ~RollCall();
  RollCall(const RollCall&) = delete;
  RollCall& operator=(const RollCall&) = delete;

 private:
  void listen();
  [[noreturn]] void give_up() const;

  Comm comm_;
  std::string check_;
  double limit_seconds_;
  int exceptions_at_start_;
  std::vector<std::string> hosts_;  // of each rank
  std::vector<bool> through_;       // on rank 0
  std::atomic<bool> is_through_ = false;
  std::atomic<bool> abandoned_ = false;
  std::thread listener_;  // on rank 0
};

}  // namespace millrace
