#include "comm/send_progress.hpp"

#include <chrono>

namespace millrace {
namespace {

constexpr auto between_entries = std::chrono::microseconds(50);
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
  while (true) {
    changed_.wait(lock, [this] { return ending_ || under_way_ > 0; });
    if (ending_) return;
    lock.unlock();
    // Looking for a message lets MPI move every other one; its answer does not matter.
    int found = 0;
    MPI_Iprobe(MPI_ANY_SOURCE, nobodys_tag, comm_, &found, MPI_STATUS_IGNORE);
    std::this_thread::sleep_for(between_entries);
    lock.lock();
  }
}

}  // namespace millrace
