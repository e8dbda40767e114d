#include "core/batch/cache_forecast.hpp"

#include <algorithm>

namespace millrace {

namespace {

// Tokens that count as allowed and generated before anything is known: until a few sequences have
// finished, they are expected to use what they may.
constexpr std::int64_t prior_tokens = 4096;

}  // namespace

CacheForecast::CacheForecast(std::int32_t num_blocks, std::int32_t block_size)
    : block_size_(block_size), capacity_(std::int64_t{num_blocks} * block_size) {}

void CacheForecast::finished(const Sequence& sequence) {
  if (!can_end_by_token(sequence.request->sampling)) return;
  generated_ += sequence.outputs();
  allowed_ += sequence.output_limit;
}

std::int64_t CacheForecast::remaining_steps(const Sequence& sequence) const {
  const std::int64_t left = sequence.output_limit - sequence.outputs();
  if (!can_end_by_token(sequence.request->sampling)) return 1 + left;
  // Of what a sequence may still generate, the part that others have used.
  return 1 + left * (generated_ + prior_tokens) / (allowed_ + prior_tokens);
}

CacheForecast::Growth CacheForecast::expect(const Sequence& sequence) const {
  return {remaining_steps(sequence), held_tokens(sequence.known())};
}

void CacheForecast::begin(std::span<const Sequence* const> running) {
  running_.clear();
  for (const Sequence* sequence : running) running_.push_back(expect(*sequence));
  std::ranges::sort(running_, std::ranges::greater(), &Growth::remaining);
}

bool CacheForecast::admits(const Sequence& sequence) {
  const Growth growth = expect(sequence);
  const auto place =
      running_.insert(std::ranges::upper_bound(running_, growth.remaining, std::ranges::greater(),
                                               &Growth::remaining),
                      growth);
  // The cache is fullest just before one of them ends: then those that end later are as many steps
  // longer as this one has left.
  std::int64_t lengths = 0;
  std::int64_t count = 0;
  for (const Growth& g : running_) {
    lengths += g.length;
    ++count;
    if (lengths + count * g.remaining > capacity_ && running_.size() > 1) {
      running_.erase(place);
      return false;
    }
  }
  return true;
}

}  // namespace millrace
