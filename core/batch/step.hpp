// The two numbered streams that a scheduler's state is a pure function of (core/README.md).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/batch/request.hpp"

namespace millrace {

// Decided by the replica's leader and sent ahead to all its ranks; applied before step `step`.
struct StepInput {
  std::int64_t step = 0;
  std::vector<std::shared_ptr<const Request>> admissions;
  // Numbers of sequences that end here: their text met a stop string, or the job stops.
  std::vector<std::int64_t> endings;
  bool drain = false;  // no admission will follow
};

// Known to the last stage and sent to all others; applied lag + 1 steps later.
struct StepResult {
  std::int64_t step = 0;
  std::vector<std::int32_t> tokens;  // one per sample of that step's plan; -1: none could be drawn
  // One per sample when any of them asks for logprobs (those of others mean nothing), else empty.
  // Only the leader has them.
  std::vector<TokenLogprobs> logprobs;
};

}  // namespace millrace
