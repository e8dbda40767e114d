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
  void add_sequence(BatchPlan& plan, std::int64_t queries, const Sequence& sequence) const;

  BatchLimits limits_;
  Sequence greedy_;
  Sequence demanding_;
};

}  // namespace millrace
