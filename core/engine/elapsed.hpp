// Adds the time that a scope took to a counter of seconds.
#pragma once

#include <chrono>

namespace millrace {

class AddElapsed {
 public:
  explicit AddElapsed(double& seconds) : seconds_(seconds) {}
  ~AddElapsed() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  AddElapsed(const AddElapsed&) = delete;
  AddElapsed& operator=(const AddElapsed&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& seconds_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace millrace
