// How many tokens of prompts a step takes. Taking all as soon as they come is best where every
// sequence there is finds a place; elsewhere it costs time later:
//
// - Where the cache cannot hold at their ends all that may run, equal sequences that begin together
//   grow and end together, and the cache is three quarters full on average. Begun at the rate at
//   which they will end, they keep it full, and every step is alike.
// - Where the longest answer takes longer than all the rest, the other prompts can wait for steps
//   that have little else to do: tokens cost little in a step that reads all weights for a few.
// - In a pipeline, stages wait for each other's longest step, and a prompt makes a step long; and
//   steps of few decodes alone, of which there are as many as micro-batches, waste its bandwidth.
//
// Integers only: every rank comes to the same answer.
#pragma once

#include <cstdint>
#include <span>

#include "core/batch/cache_forecast.hpp"
#include "core/batch/waiting_queue.hpp"

namespace millrace {

// What a step finds.
struct PromptDemand {
  std::span<const Sequence* const> running;  // with prompts under way among them
  const WaitingQueue& waiting;
  bool is_all = false;       // nothing more will come, as far as can be seen
  std::int32_t decodes = 0;  // tokens that the step decodes
  std::int32_t most = 0;     // that a step may take of prompts
};

class PromptPace {
 public:
  // At most `max_num_seqs` sequences run, in a cache of `cache_tokens` tokens. Prompts are gathered
  // until a step has `chunk` tokens of them; 0: every step takes as many as it may.
  PromptPace(std::int32_t chunk, std::int32_t max_num_seqs, std::int64_t cache_tokens);

  // For the next step, the only one it is asked for.
  std::int32_t tokens(const PromptDemand& demand, const CacheForecast& forecast);

  // The same for a pipeline that gives each sequence every `steps`-th step, of which `free_places`
  // may begin now.
  std::int32_t tokens_of_stages(const PromptDemand& demand, const CacheForecast& forecast,
                                std::size_t free_places, std::int32_t steps);

 private:
  // Tokens that a step is entitled to, and with how many a step has prompts at all.
  std::int64_t share(const PromptDemand& demand, const CacheForecast& forecast) const;
  std::int64_t least_tokens(std::int64_t share, std::int64_t decodes) const;

  std::int64_t chunk_;
  std::int64_t max_num_seqs_;
  std::int64_t cache_tokens_;
  std::int64_t saved_ = 0;         // tokens that steps were entitled to and did not take
  std::int64_t stages_share_ = 0;  // of each step of a pipeline, while there are prompts
};

}  // namespace millrace
