#include "core/weights/read_ahead.hpp"

#include <omp.h>

#include <utility>

namespace millrace {

ReadAhead::ReadAhead(std::size_t count, std::size_t slots, std::function<void(std::size_t)> read)
    : count_(count), slots_(slots), read_(std::move(read)), errors_(count) {
  // A new thread would start with OpenMP's own default.
  thread_ = std::thread([this, threads = omp_get_max_threads()] { run(threads); });
}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void ReadAhead::run(int threads) {
  omp_set_num_threads(threads);
  for (std::size_t turn = 0; turn < count_; ++turn) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopped_ || turn < released_ + slots_; });
      if (stopped_) return;
    }
    std::exception_ptr error;
    try {
      read_(turn);
    } catch (...) {
      error = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex_);
      errors_[turn] = error;
      done_ = turn + 1;
    }
    changed_.notify_all();
  }
}

void ReadAhead::wait(std::size_t turn) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return done_ > turn; });
  if (errors_[turn]) std::rethrow_exception(errors_[turn]);
}

void ReadAhead::release() {
  {
    const std::lock_guard lock(mutex_);
    ++released_;
  }
  changed_.notify_all();
}

}  // namespace millrace
