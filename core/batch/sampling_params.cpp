#include "core/batch/sampling_params.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "kernels/base/error.hpp"

namespace millrace {

namespace {

// Written so that NaN is refused too.
template <typename T>
void require(bool in_range, const char* field, T value, std::string_view range) {
  if (!in_range) throw UserError("{} is {}, but must be {}", field, value, range);
}

}  // namespace

void validate(const SamplingParams& p) {
  require(p.temperature >= 0 && std::isfinite(p.temperature), "temperature", p.temperature,
          "finite and at least 0");
  require(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "in (0, 1]");
  require(p.min_p >= 0 && p.min_p <= 1, "min_p", p.min_p, "in [0, 1]");
  require(p.top_k >= -1, "top_k", p.top_k, "at least 1, or 0 or -1 for all tokens");
  require(p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty), "repetition_penalty",
          p.repetition_penalty, "finite and above 0");
  require(std::abs(p.presence_penalty) <= 2, "presence_penalty", p.presence_penalty, "in [-2, 2]");
  require(std::abs(p.frequency_penalty) <= 2, "frequency_penalty", p.frequency_penalty,
          "in [-2, 2]");
  std::vector<std::int32_t> biased;
  for (const auto& [token, bias] : p.logit_bias) {
    require(token >= 0, "a token of logit_bias", token, "at least 0");
    require(std::abs(bias) <= 100, "logit_bias", bias, "in [-100, 100]");
    biased.push_back(token);
  }
  std::ranges::sort(biased);
  if (const auto twice = std::ranges::adjacent_find(biased); twice != biased.end()) {
    throw UserError("logit_bias has the token id {} twice", *twice);
  }
  require(p.max_tokens >= 1, "max_tokens", p.max_tokens, "at least 1");
  require(p.min_tokens >= 0 && p.min_tokens <= p.max_tokens, "min_tokens", p.min_tokens,
          fmt::format("between 0 and max_tokens, {}", p.max_tokens));
  for (const std::string& stop : p.stop) {
    if (stop.empty()) throw UserError("stop holds an empty string");
  }
  for (const std::int32_t token : p.stop_token_ids) {
    require(token >= 0, "stop_token_ids", token, "at least 0");
  }
  require(p.logprobs >= -1 && p.logprobs <= max_logprobs, "logprobs", p.logprobs, "in 0..20");
  require(p.n >= 1 && p.n <= 1024, "n", p.n, "in 1..1024");
}

}  // namespace millrace
