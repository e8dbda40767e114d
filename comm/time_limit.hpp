// An end to waiting inside a library that knows none.
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace millrace {

// If it still lives after `seconds`, `line` is printed to stderr and the whole job ends with exit
// code 1, whatever this rank's other threads are waiting for.
class TimeLimit {
 public:
  TimeLimit(double seconds, std::string line);
  ~TimeLimit();
  TimeLimit(const TimeLimit&) = delete;
  TimeLimit& operator=(const TimeLimit&) = delete;

 private:
  void watch(double seconds);

  std::string line_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool kept_ = false;
  std::thread thread_;
};

}  // namespace millrace
