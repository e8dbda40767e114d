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
  // A sequence has ended, for whatever reason.
  void finished(const Sequence& sequence);

  // A step's admissions begin, with these sequences running in a cache of so many blocks.
  void begin(std::span<const Sequence* const> running, std::int32_t num_blocks,
             std::int32_t block_size);

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

  std::vector<Growth> running_;  // by remaining, longest first
  std::int64_t capacity_ = 0;    // tokens
  std::int64_t block_size_ = 0;
  std::int64_t generated_ = 0;  // of all that have finished
  std::int64_t allowed_ = 0;    // what these might have generated
};

}  // namespace millrace
