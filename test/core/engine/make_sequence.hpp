// A sequence as the scheduler would hold it, for tests of what reads it.
#pragma once

#include <memory>

#include "core/batch/batch_plan.hpp"

namespace millrace::test {

inline std::unique_ptr<Sequence> make_sequence(const SamplingParams& sampling,
                                               std::vector<std::int32_t> prompt,
                                               std::vector<std::int32_t> outputs = {},
                                               std::int64_t offset = 0) {
  auto request = std::make_shared<Request>();
  request->key.offset = offset;
  request->prompt_tokens = std::move(prompt);
  request->sampling = sampling;
  auto sequence = std::make_unique<Sequence>();
  sequence->tokens = request->prompt_tokens;
  sequence->tokens.insert(sequence->tokens.end(), outputs.begin(), outputs.end());
  sequence->output_limit = sampling.max_tokens;
  sequence->slot = 0;
  sequence->number = offset;
  sequence->request = std::move(request);
  return sequence;
}

}  // namespace millrace::test
