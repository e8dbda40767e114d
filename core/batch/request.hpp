// What goes into the engine (one parsed line of the prompt file) and what comes out of it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/batch/sampling_params.hpp"

namespace millrace {

// Names a request in the whole run: the byte offset of its line in the prompt file. Sampling noise
// is keyed by it, so it must not depend on the grid or on who read the line.
struct RequestKey {
  std::int64_t offset = 0;
  friend auto operator<=>(const RequestKey&, const RequestKey&) = default;
};

struct Request {
  RequestKey key;
  std::int64_t index = 0;       // the reader's numbering; the engine hands it back untouched
  std::int64_t line_bytes = 0;  // of the line, newline included; handed back untouched too
  std::string id;               // the user's name for the line, or empty
  std::vector<std::int32_t> prompt_tokens;
  SamplingParams sampling;
  // A line that cannot be run (malformed, too long). The engine passes it to the sink in its turn.
  std::string error;
};

// What was probable where one token was chosen. From the model's raw logits: before penalties,
// temperature and cuts. Natural logarithms; rank counts from 1.
struct TokenLogprobs {
  std::int32_t token = 0;
  float logprob = 0;
  std::int32_t rank = 0;
  std::vector<std::pair<std::int32_t, float>> top;  // (token, logprob), most likely first
};

enum class FinishReason : std::uint8_t { stop, length, error };

// "stop", "length", "error".
const char* name(FinishReason reason);

struct Completion {
  std::int32_t number = 0;  // 0 .. n-1
  // Ends before the stop string or the stop token, unless include_stop_str_in_output.
  std::string text;
  // Everything that was generated, the token that ended it included.
  std::vector<std::int32_t> token_ids;
  FinishReason finish_reason = FinishReason::length;
  // The stop string, or the stop token's id in decimal; empty for EOS and for the other reasons.
  std::string stop_reason;
  std::vector<TokenLogprobs> logprobs;  // one per token when asked for, else empty
};

struct FinishedRequest {
  RequestKey key;
  std::int64_t index = 0;
  std::int64_t line_bytes = 0;
  std::string id;
  std::vector<std::int32_t> prompt_token_ids;
  std::vector<Completion> completions;  // by number; empty when `error` is set
  std::string error;
  // Seconds since the run began (RunClock); first_token_seconds is 0 when there was none.
  double arrived_seconds = 0;
  double first_token_seconds = 0;
  double finished_seconds = 0;
};

}  // namespace millrace
