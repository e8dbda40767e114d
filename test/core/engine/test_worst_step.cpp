// The steps that a cache is sized by: as large as the limits allow, and made as the ops ask for.
#include <gtest/gtest.h>

#include <set>

#include "core/engine/worst_step.hpp"

namespace millrace {
namespace {

void expect_sound(const BatchPlan& plan, const BatchLimits& limits) {
  ASSERT_EQ(plan.query_starts.size(), static_cast<std::size_t>(plan.num_sequences()) + 1);
  std::set<std::int32_t> slots;
  for (std::size_t i = 0; i < plan.kv_lengths.size(); ++i) {
    const std::int32_t queries = plan.query_starts[i + 1] - plan.query_starts[i];
    EXPECT_GE(queries, 1);
    EXPECT_LE(queries, limits.blocks_per_sequence * limits.block_size);
    EXPECT_EQ(plan.kv_lengths[i], queries);
    if (i < static_cast<std::size_t>(plan.decode_sequences)) {
      EXPECT_EQ(queries, 1);
    }
    EXPECT_EQ(plan.logits_rows[i], plan.query_starts[i + 1] - 1);
    slots.insert(plan.samples[i].sequence->slot);
  }
  EXPECT_EQ(slots.size(), plan.samples.size()) << "each sequence has a slot of its own";
  EXPECT_EQ(plan.query_starts.back(), plan.num_tokens());
  EXPECT_EQ(plan.block_tables.size(),
            plan.kv_lengths.size() * static_cast<std::size_t>(limits.blocks_per_sequence));
}

TEST(WorstSteps, HaveAsManyTokensAndSequencesAsAStepMay) {
  for (const BatchLimits& limits : {BatchLimits{64, 8, 4, 16}, BatchLimits{64, 1, 4, 16},
                                    BatchLimits{7, 7, 10, 3}, BatchLimits{8192, 256, 256, 16}}) {
    const WorstSteps worst(limits);
    const BatchPlan plan = worst.prompts(3);
    EXPECT_EQ(plan.step, 3);
    EXPECT_EQ(plan.num_tokens(), limits.tokens);
    EXPECT_EQ(plan.num_sequences(), limits.sequences);
    expect_sound(plan, limits);
    const BatchPlan decode = worst.decode(4, limits.sequences);
    EXPECT_EQ(decode.num_tokens(), limits.sequences);
    EXPECT_EQ(decode.decode_sequences, limits.sequences);
    expect_sound(decode, limits);
  }
}

TEST(WorstSteps, NoSequenceIsLongerThanTheLongest) {
  const BatchLimits limits{1000, 4, 2, 16};  // four sequences of 32 tokens, not 1,000 tokens
  const BatchPlan plan = WorstSteps(limits).prompts(0);
  EXPECT_EQ(plan.num_tokens(), 4 * 32);
  expect_sound(plan, limits);
}

TEST(WorstSteps, AskForEverythingThatASamplerDoes) {
  const SamplingParams& sampling =
      WorstSteps({16, 2, 1, 16}).prompts(0).samples.at(0).sequence->request->sampling;
  EXPECT_GT(sampling.temperature, 0);
  EXPECT_GT(sampling.top_k, 0);
  EXPECT_LT(sampling.top_p, 1);
  EXPECT_GT(sampling.min_p, 0);
  EXPECT_GE(sampling.logprobs, 1);
}

}  // namespace
}  // namespace millrace
