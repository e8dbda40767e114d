#include "comm/progress.hpp"

#include <utility>

namespace millrace {
namespace {

thread_local Progress* watched = nullptr;

}  // namespace

Progress* watch_this_thread(Progress* progress) { return std::exchange(watched, progress); }

void mark_step(std::int64_t step) {
  if (watched != nullptr) watched->step.store(step, std::memory_order_relaxed);
}

WaitingIn::WaitingIn(const char* exchange) {
  if (watched == nullptr) return;
  outer_ = watched->waiting_in.load(std::memory_order_relaxed);
  watched->waiting_in.store(exchange, std::memory_order_relaxed);
  const std::int64_t begun = watched->exchanges.load(std::memory_order_relaxed);
  watched->exchanges.store(begun + 1, std::memory_order_relaxed);  // only this thread writes
}

WaitingIn::~WaitingIn() {
  if (watched != nullptr) watched->waiting_in.store(outer_, std::memory_order_relaxed);
}

}  // namespace millrace
