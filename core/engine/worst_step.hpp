// The largest steps that an engine's limits allow, made up: run once at the start, they show what a
// device's libraries, communicators and graphs take beside the engine's own tensors.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/batch/batch_plan.hpp"
#include "core/engine/device_batch.hpp"

namespace millrace {

class WorstSteps {
 public:
  explicit WorstSteps(const BatchLimits& limits);

  // As many tokens as a step may have, in as many sequences, every one of which draws a token and
  // asks for all that a sampler can do. All keys lie in block 0, and none is written.
  BatchPlan prompts(std::int64_t step) const;

  // One token of each of `sequences` sequences, drawn greedily.
  BatchPlan decode(std::int64_t step, std::int64_t sequences) const;

 private:
  BatchLimits limits_;
  std::vector<Sequence> greedy_;  // by slot, as many as a step may have
  std::vector<Sequence> demanding_;
};

}  // namespace millrace
