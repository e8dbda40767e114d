#include "core/batch/waiting_queue.hpp"

#include <algorithm>
#include <utility>

namespace millrace {

bool WaitingQueue::is_before(const Entry& a, const Entry& b) {
  if (a.remaining != b.remaining) return a.remaining > b.remaining;
  return a.sequence->number < b.sequence->number;
}

void WaitingQueue::insert(std::unique_ptr<Sequence> sequence, const CacheForecast& forecast) {
  tokens_ += sequence->known();
  Entry entry{by_length_ ? forecast.remaining_steps(*sequence) : 0, std::move(sequence)};
  const auto place = std::ranges::upper_bound(entries_, entry, is_before);
  entries_.insert(place, std::move(entry));
}

std::unique_ptr<Sequence> WaitingQueue::pop_front() {
  std::unique_ptr<Sequence> sequence = std::move(entries_.front().sequence);
  entries_.pop_front();
  tokens_ -= sequence->known();
  return sequence;
}

std::unique_ptr<Sequence> WaitingQueue::remove(std::int64_t number) {
  const auto found = std::ranges::find_if(
      entries_, [&](const Entry& entry) { return entry.sequence->number == number; });
  if (found == entries_.end()) return nullptr;
  std::unique_ptr<Sequence> sequence = std::move(found->sequence);
  entries_.erase(found);
  tokens_ -= sequence->known();
  return sequence;
}

void WaitingQueue::order_by_length(const CacheForecast& forecast) {
  if (std::exchange(by_length_, true)) return;
  for (Entry& entry : entries_) entry.remaining = forecast.remaining_steps(*entry.sequence);
  std::ranges::sort(entries_, is_before);
}

}  // namespace millrace
