// What the sampler's ops need to know of each row, gathered from the requests' settings on the
// host.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/batch/batch_plan.hpp"

namespace millrace {

struct SamplingRows {
  // [rows]
  std::vector<float> temperature;  // 0: greedy
  std::vector<float> min_p;
  std::vector<float> top_p;
  std::vector<std::int32_t> top_k;
  std::vector<std::int32_t> positions;  // of the token that is drawn
  std::vector<std::int64_t> noise_keys;

  // [edits] of logits, see LogitEdits
  std::vector<std::int32_t> edit_rows;
  std::vector<std::int32_t> edit_tokens;
  std::vector<float> divide;
  std::vector<float> subtract;

  // What the batch asks for at all.
  bool any_min_p = false;
  bool any_top_k = false;
  bool any_top_p = false;
  std::int32_t logprobs = -1;  // most entries that a row wants; -1: no row wants any

  std::size_t size() const { return temperature.size(); }
  void clear();
};

// Remembers which tokens the sequences that ask for penalties have seen, so that a step costs what
// is new and what must be edited, not the sequence's length.
class SamplingRowsBuilder {
 public:
  // `seed` is the run's; requests with a seed of their own do not depend on it.
  SamplingRowsBuilder(std::int32_t max_num_seqs, std::uint64_t seed,
                      std::vector<std::int32_t> eos_token_ids);

  void build(std::span<const Sample> samples, SamplingRows& rows);

 private:
  struct TokenCount {
    std::int32_t token = 0;
    std::int32_t outputs = 0;  // 0: only in the prompt
  };
  struct History {
    std::int64_t sequence = -1;
    std::int32_t seen = 0;
    std::vector<TokenCount> counts;  // by token
  };

  void add_edits(const Sample& sample, std::int32_t row, SamplingRows& rows);
  const std::vector<TokenCount>& history_of(const Sequence& sequence);

  std::uint64_t seed_;
  std::vector<std::int32_t> eos_token_ids_;
  std::vector<History> histories_;  // by sequence slot
};

}  // namespace millrace
