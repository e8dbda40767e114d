// What a rank's main thread is doing, in two words that the watchdog can read at any time. Marking
// costs a relaxed store; on threads that nobody watches, and in programs without a watchdog,
// nothing.
#pragma once

#include <atomic>
#include <cstdint>

namespace millrace {

struct Progress {
  std::atomic<std::int64_t> step = -1;            // -1: not in the steps yet, or past them
  std::atomic<std::int64_t> exchanges = 0;        // begun so far
  std::atomic<const char*> waiting_in = nullptr;  // an exchange with other ranks; text for ever
};

// From now on this thread's marks go to `progress`; nullptr: nowhere. Returns where they went
// before.
Progress* watch_this_thread(Progress* progress);

// The thread begins step `step` of the model; -1: it leaves the steps.
void mark_step(std::int64_t step);

// While it lives, the thread is in the named exchange with other ranks, waiting or about to.
class WaitingIn {
 public:
  explicit WaitingIn(const char* exchange);
  ~WaitingIn();
  WaitingIn(const WaitingIn&) = delete;
  WaitingIn& operator=(const WaitingIn&) = delete;

 private:
  const char* outer_ = nullptr;
};

}  // namespace millrace
