// Work that a thread of its own does a few turns ahead of who needs it: files are read while what
// was read before is sent and packed.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace millrace {

class ReadAhead {
 public:
  // Calls read(0), read(1), ... read(count - 1) on the thread, with as many OpenMP threads as the
  // caller has; read(i) when turn i - slots has been released.
  ReadAhead(std::size_t count, std::size_t slots, std::function<void(std::size_t)> read);
  // Waits for the read under way.
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  // Blocks until read(turn) is over; throws what it threw.
  void wait(std::size_t turn);
  // Turns are released in order, each after it was waited for.
  void release();

 private:
  void run(int threads);

  std::size_t count_;
  std::size_t slots_;
  std::function<void(std::size_t)> read_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t done_ = 0;
  std::size_t released_ = 0;
  bool stopped_ = false;
  std::vector<std::exception_ptr> errors_;
  std::thread thread_;
};

}  // namespace millrace
