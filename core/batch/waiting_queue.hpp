// Sequences that own no block, in the order in which they will be admitted: first come, first
// served, until nothing more will come; then those that have most to generate first. What begins
// last should be over soon: a step of the few sequences that are left costs nearly as much as a
// step of many.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "core/batch/cache_forecast.hpp"

namespace millrace {

class WaitingQueue {
 public:
  bool empty() const { return entries_.empty(); }
  std::size_t size() const { return entries_.size(); }
  const Sequence& at(std::size_t place) const { return *entries_[place].sequence; }
  const Sequence& front() const { return at(0); }
  // Known tokens of all of them.
  std::int64_t tokens() const { return tokens_; }

  // To its place: a preempted sequence goes before those that came later.
  void insert(std::unique_ptr<Sequence> sequence, const CacheForecast& forecast);
  std::unique_ptr<Sequence> pop_front();
  // Null when it is not here.
  std::unique_ptr<Sequence> remove(std::int64_t number);

  // From now on those that are expected to generate most are first; equals by number.
  void order_by_length(const CacheForecast& forecast);

 private:
  struct Entry {
    std::int64_t remaining = 0;  // expected; 0 for all while the order is that of numbers
    std::unique_ptr<Sequence> sequence;
  };
  static bool is_before(const Entry& a, const Entry& b);

  std::deque<Entry> entries_;
  std::int64_t tokens_ = 0;
  bool by_length_ = false;
};

}  // namespace millrace
