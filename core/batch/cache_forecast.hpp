// Whether the cache will still do when the sequences that are running have grown: what is admitted
// beyond that is preempted later and computed twice. Known at admission are each sequence's length
// and the most that it may generate; how much of that is generated is learned from those that have
// finished. Integers only, so that every rank comes to the same answer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/batch/sequence.hpp"

namespace millrace {

class CacheForecast {
 public:
  CacheForecast(std::int32_t num_blocks, std::int32_t block_size);

  // A sequence has ended, for whatever reason.
  void finished(const Sequence& sequence);

  // In how many steps the sequence is expected to have ended, once it has been prefilled.
  std::int64_t remaining_steps(const Sequence& sequence) const;

  // What a sequence of `length` tokens takes of the cache: the last block is half empty or worse.
  std::int64_t held_tokens(std::int64_t length) const { return length + block_size_; }

  // A step's admissions begin, with these sequences running.
  void begin(std::span<const Sequence* const> running);

  // Whether the cache will hold this sequence with all that run, until each of them ends when it is
  // expected to; if so, it runs from now on. True when nothing runs.
  bool admits(const Sequence& sequence);

 private:
  // A sequence that holds `length` tokens of cache now, one more with every step, and none after
  // `remaining` steps.
  struct Growth {
    std::int64_t remaining = 0;
    std::int64_t length = 0;
  };

  Growth expect(const Sequence& sequence) const;

  std::int64_t block_size_;
  std::int64_t capacity_;        // tokens
  std::vector<Growth> running_;  // by remaining, longest first
  // Of those that have finished and might have done so earlier.
  std::int64_t generated_ = 0;
  std::int64_t allowed_ = 0;  // what these might have generated
};

}  // namespace millrace
