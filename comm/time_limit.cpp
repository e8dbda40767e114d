#include "comm/time_limit.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "comm/environment.hpp"

namespace millrace {
namespace {

constexpr unsigned abort_seconds = 10;

}  // namespace

TimeLimit::TimeLimit(double seconds, std::string line)
    : line_(std::move(line)), thread_([this, seconds] { watch(seconds); }) {}

TimeLimit::~TimeLimit() {
  {
    const std::lock_guard lock(mutex_);
    kept_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void TimeLimit::watch(double seconds) {
  std::unique_lock lock(mutex_);
  if (changed_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return kept_; })) {
    return;
  }
  std::fflush(stdout);
  fmt::print(stderr, "{}\n", line_);
  std::fflush(stderr);
  // Others who wait for the same may have something to say as well.
  std::this_thread::sleep_for(std::chrono::seconds(1));
  alarm(abort_seconds);  // aborting must not wait for a broken network either
  Environment::abort_job(1);
}

}  // namespace millrace
