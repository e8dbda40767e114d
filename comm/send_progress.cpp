#include "comm/send_progress.hpp"

#include <algorithm>
#include <chrono>

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int nobodys_tag = 32'767;  // the least upper bound of tags that MPI promises

}  // namespace

SendProgress::SendProgress(MPI_Comm comm) : comm_(comm), thread_([this] { run(); }) {}

SendProgress::~SendProgress() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void SendProgress::began() {
  {
    const std::lock_guard lock(mutex_);
    ++under_way_;
  }
  changed_.notify_one();
}

void SendProgress::done() {
  const std::lock_guard lock(mutex_);
  --under_way_;
}

void SendProgress::run() {
  std::unique_lock lock(mutex_);
  Clock::time_point start;
  while (true) {
    if (under_way_ == 0) {
      changed_.wait(lock, [this] { return ending_ || under_way_ > 0; });
      start = Clock::now();
    }
    if (ending_) return;
    lock.unlock();
    // Looking for a message lets MPI move every other one; its answer does not matter.
    int found = 0;
    MPI_Iprobe(MPI_ANY_SOURCE, nobodys_tag, comm_, &found, MPI_STATUS_IGNORE);
    // The owner of a send that is long done may not have looked yet: enter ever more seldom.
    std::this_thread::sleep_for(std::clamp<Clock::duration>(
        (Clock::now() - start) / 8, std::chrono::microseconds(50), std::chrono::milliseconds(2)));
    lock.lock();
  }
}

}  // namespace millrace
