// Made-up results: what the tests of core/io share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/batch/request.hpp"
#include "test/temporary_folder.hpp"

namespace millrace {

// A result of a line of 10 bytes that depends on the line's offset alone and has something of
// everything: every third has two completions, every fifth failed, texts hold NUL, quotes, several
// scripts and broken UTF-8.
inline FinishedRequest sample_result(std::int64_t offset) {
  FinishedRequest result;
  result.key.offset = offset;
  result.line_bytes = 10;
  if (offset % 2 == 0) {
    result.id = "line-" + std::to_string(offset);
  }
  for (std::int64_t i = 0; i < offset % 7; ++i) {
    result.prompt_token_ids.push_back(static_cast<std::int32_t>(offset * 31 + i * 1000));
  }
  result.arrived_seconds = static_cast<double>(offset) * 0.125;
  if (offset % 5 == 4) {
    result.error = "unknown field \"tempature\"";
    return result;
  }
  result.first_token_seconds = result.arrived_seconds + 0.5;
  result.finished_seconds = result.arrived_seconds + 2;
  const int completions = offset % 3 == 0 ? 2 : 1;
  for (int number = 0; number < completions; ++number) {
    Completion completion;
    completion.number = number;
    completion.text = "текст \"" + std::to_string(offset) + "\"\n\t\x01 日本語 🙂";
    completion.text.push_back('\0');
    if (offset % 11 == 0) {
      completion.text += "\xff\xe2\x82";
    }
    for (int token = 0; token < 3 + number; ++token) {
      completion.token_ids.push_back(static_cast<std::int32_t>(offset * 7 + token));
      if (offset % 4 == 0) {
        TokenLogprobs logprobs{
            completion.token_ids.back(), -0.1F * static_cast<float>(token + 1), 1 + token, {}};
        for (int top = 0; top < token; ++top) {
          logprobs.top.emplace_back(top, -1.5F - static_cast<float>(top));
        }
        completion.logprobs.push_back(std::move(logprobs));
      }
    }
    completion.finish_reason = number == 0 ? FinishReason::stop : FinishReason::length;
    completion.stop_reason = offset % 6 == 0 && number == 0 ? "\n\n" : "";
    result.completions.push_back(std::move(completion));
  }
  return result;
}

inline bool same(const TokenLogprobs& a, const TokenLogprobs& b) {
  return a.token == b.token && a.logprob == b.logprob && a.rank == b.rank && a.top == b.top;
}

inline bool same(const Completion& a, const Completion& b) {
  return a.number == b.number && a.text == b.text && a.token_ids == b.token_ids &&
         a.finish_reason == b.finish_reason && a.stop_reason == b.stop_reason &&
         std::ranges::equal(a.logprobs, b.logprobs,
                            [](const auto& x, const auto& y) { return same(x, y); });
}

// Equal but for `index` and `line_bytes`, which no result file keeps.
inline bool same(const FinishedRequest& a, const FinishedRequest& b) {
  return a.key == b.key && a.id == b.id && a.prompt_token_ids == b.prompt_token_ids &&
         a.error == b.error && a.arrived_seconds == b.arrived_seconds &&
         a.first_token_seconds == b.first_token_seconds &&
         a.finished_seconds == b.finished_seconds &&
         std::ranges::equal(a.completions, b.completions,
                            [](const auto& x, const auto& y) { return same(x, y); });
}

}  // namespace millrace
