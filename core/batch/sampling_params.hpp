// How one request wants its tokens chosen and its completion ended. Plain data with vLLM's names,
// meanings and defaults.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace millrace {

struct SamplingParams {
  float temperature = 1.0F;  // 0: greedy
  float top_p = 1.0F;        // (0, 1]; 1: off
  float min_p = 0.0F;        // [0, 1]; 0: off
  std::int32_t top_k = 0;    // 0 or -1: off

  float repetition_penalty = 1.0F;                              // > 0; over prompt and output
  float presence_penalty = 0.0F;                                // [-2, 2]; over the output
  float frequency_penalty = 0.0F;                               // [-2, 2]; over the output
  std::vector<std::pair<std::int32_t, float>> logit_bias = {};  // (token, addend in [-100, 100])

  // A request with a seed of its own draws the same tokens wherever its line stands in whatever
  // file; without one the run's seed and the request's key decide.
  std::optional<std::uint64_t> seed = {};

  std::int32_t max_tokens = 16;  // at least 1
  std::int32_t min_tokens = 0;   // EOS and stop tokens cannot be drawn before this many
  std::vector<std::string> stop = {};
  std::vector<std::int32_t> stop_token_ids = {};
  bool ignore_eos = false;
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;

  std::int32_t logprobs =
      -1;              // -1: none; k in 0..20: the chosen token's and the k most likely ones'
  std::int32_t n = 1;  // completions per prompt

  friend bool operator==(const SamplingParams&, const SamplingParams&) = default;
};

inline constexpr std::int32_t max_logprobs = 20;

// True when a draw depends on which tokens were drawn before.
inline bool has_penalties(const SamplingParams& p) {
  return p.repetition_penalty != 1 || p.presence_penalty != 0 || p.frequency_penalty != 0;
}

// True when a token can end a completion before its limit. Not counting stop strings, which the
// leader alone knows.
inline bool can_end_by_token(const SamplingParams& p) {
  return !p.ignore_eos || !p.stop_token_ids.empty();
}

// Throws UserError naming the first field that is out of its range, and its value.
void validate(const SamplingParams& params);

}  // namespace millrace
