// What tests of the scheduler drive it with: made-up prompts, a "model", and a small configuration.
#pragma once

#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "core/batch/scheduler.hpp"

namespace millrace::test {

inline std::shared_ptr<Request> prompt(std::int32_t length, std::int32_t max_tokens = 100) {
  auto request = std::make_shared<Request>();
  for (std::int32_t i = 0; i < length; ++i) request->prompt_tokens.push_back(10 + i);
  request->sampling.max_tokens = max_tokens;
  return request;
}

// Runs the scheduler with a "model" that always draws the same token.
class Driver {
 public:
  explicit Driver(SchedulerConfig config) : scheduler(std::move(config)) {}

  const BatchPlan& step(std::vector<std::shared_ptr<const Request>> admissions = {},
                        std::vector<std::int64_t> endings = {}, bool drain = false) {
    updates.clear();
    scheduler.apply(StepInput{.step = scheduler.next_step(),
                              .admissions = std::move(admissions),
                              .endings = std::move(endings),
                              .drain = drain},
                    updates);
    if (scheduler.expects_result()) {
      const auto due = static_cast<std::size_t>(scheduler.next_step() - 1 - scheduler.config().lag);
      scheduler.apply(results.at(due), updates);
    }
    for (const SequenceUpdate& update : updates) {
      if (update.finished) ended.push_back(update.sequence->number);
    }
    const BatchPlan& plan = scheduler.schedule();
    for (const Sequence* sequence : scheduler.running()) {
      if (known_.insert(sequence->number).second) started.push_back(sequence->number);
    }
    results.push_back({.step = plan.step,
                       .tokens = std::vector<std::int32_t>(plan.samples.size(), drawn),
                       .logprobs = {}});
    return plan;
  }

  Scheduler scheduler;
  std::vector<SequenceUpdate> updates;  // of the last step; their sequences may be gone
  std::vector<std::int64_t> ended;      // sequence numbers, in order
  std::vector<std::int64_t> started;
  std::vector<StepResult> results;
  std::int32_t drawn = 5;

 private:
  std::set<std::int64_t> known_;  // of `started`
};

inline SchedulerConfig config() {
  return {.max_num_batched_tokens = 16,
          .max_num_seqs = 8,
          .max_model_len = 64,
          .block_size = 4,
          .num_blocks = 64,
          .lag = 0,
          .lookahead = 0,
          .eos_token_ids = {2}};
}

}  // namespace millrace::test
