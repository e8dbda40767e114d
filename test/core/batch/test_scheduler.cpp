// The scheduler's decisions in small cases worked out by hand.
#include "core/batch/scheduler.hpp"

#include <gmock/gmock.h>

#include <algorithm>

#include "kernels/base/error.hpp"
#include "test/core/batch/scheduler_driver.hpp"

namespace millrace {
namespace {

using test::config;
using test::Driver;
using test::prompt;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Scheduler, APlanHoldsWhatTheOpsNeed) {
  Driver driver(config());
  const BatchPlan& plan = driver.step({prompt(6)});
  EXPECT_THAT(plan.tokens, ElementsAre(10, 11, 12, 13, 14, 15));
  EXPECT_THAT(plan.positions, ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(plan.slots, ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(plan.query_starts, ElementsAre(0, 6));
  EXPECT_THAT(plan.kv_lengths, ElementsAre(6));
  EXPECT_THAT(plan.block_tables, ElementsAre(0, 1));
  EXPECT_THAT(plan.logits_rows, ElementsAre(5));
  EXPECT_EQ(plan.decode_sequences, 0);
  driver.step();
  EXPECT_THAT(plan.tokens, ElementsAre(5));
  EXPECT_THAT(plan.positions, ElementsAre(6));
  EXPECT_THAT(plan.kv_lengths, ElementsAre(7));
  EXPECT_EQ(plan.decode_sequences, 1);
}

TEST(Scheduler, DecodesComeBeforeChunksAndChunksBeforeNewPrompts) {
  Driver driver(config());
  driver.step({prompt(3), prompt(30), prompt(5)});
  const BatchPlan& first = driver.step();
  // 16 tokens: one decode, then 15 of the 17 left of the long prompt; none are left for the third.
  EXPECT_THAT(first.kv_lengths, ElementsAre(4, 28));
  EXPECT_THAT(first.query_starts, ElementsAre(0, 1, 16));
  EXPECT_EQ(first.samples.size(), 1U) << "the prompt is not complete";
  const BatchPlan& second = driver.step();
  EXPECT_THAT(second.kv_lengths, ElementsAre(5, 30, 5));
  EXPECT_EQ(second.samples.size(), 3U);
}

TEST(Scheduler, SequencesAreSpreadOverTheStagesSteps) {
  for (const std::int32_t lag : {1, 2, 3}) {
    SchedulerConfig c = config();
    c.lag = lag;
    c.max_num_seqs = 12;
    c.num_blocks = 256;
    Driver driver(c);
    std::vector<std::shared_ptr<const Request>> prompts(12, prompt(1));
    for (int step = 0; step < 20; ++step) {
      const BatchPlan& plan = driver.step(step == 0 ? prompts : decltype(prompts)());
      EXPECT_EQ(plan.num_sequences(), 12 / (lag + 1)) << "lag " << lag << ", step " << step;
    }
  }
}

// When each stage would begin and end each step, were a step's time a fixed part and one per token.
TEST(Scheduler, EveryStageIsBusyWhileThereIsWork) {
  for (const int stages : {2, 3, 4}) {
    SchedulerConfig c = config();
    c.lag = stages - 1;
    c.max_num_seqs = 64;
    c.max_num_batched_tokens = 128;
    c.max_model_len = 256;
    c.num_blocks = 64 * 64;
    Driver driver(c);
    std::vector<std::shared_ptr<const Request>> prompts;
    for (int i = 0; i < 400; ++i) prompts.push_back(prompt(1 + i * 37 % 90, 20 + i * 53 % 80));
    std::vector<std::vector<double>> ends(static_cast<std::size_t>(stages));  // [stage][step]
    double busy = 0;
    double now = 0;
    for (std::size_t step = 0; step == 0 || !driver.scheduler.idle(); ++step) {
      // Sequences to begin with, and more as long as there are any: the tail is another matter.
      const BatchPlan& plan = driver.step(step == 0 ? prompts : decltype(prompts)());
      const double work = plan.empty() ? 0 : 16 + plan.num_tokens();
      const auto lag = static_cast<std::size_t>(c.lag);
      double ready = step > lag ? ends.back()[step - 1 - lag] : 0;
      for (auto& stage : ends) {
        ready = std::max(ready, stage.empty() ? 0 : stage.back()) + work;
        stage.push_back(ready);
      }
      if (driver.scheduler.num_waiting() > 0) {
        busy += work;
        now = ends.front().back();
      }
    }
    EXPECT_GT(busy / now, 0.88) << stages << " stages";
  }
}

// As many tokens in each step, to the last one: a share of what is left would shrink for ever.
TEST(Scheduler, PromptsOfAPipelineAreSpreadEvenlyToTheLast) {
  SchedulerConfig c = config();
  c.lag = 1;
  c.max_num_seqs = 64;
  c.max_num_batched_tokens = 4096;
  c.max_model_len = 512;
  c.num_blocks = 64 * 128;
  Driver driver(c);
  std::vector<std::shared_ptr<const Request>> prompts(64, prompt(100, 300));
  std::int64_t left = 64 * 100;
  std::int64_t steps = 0;
  for (; left > 0 && steps < 1000; ++steps) {
    const BatchPlan& plan = driver.step(steps == 0 ? prompts : decltype(prompts)());
    std::int64_t prompt_tokens = 0;
    for (const std::int32_t position : plan.positions) prompt_tokens += position < 100 ? 1 : 0;
    EXPECT_EQ(prompt_tokens, std::min<std::int64_t>(left, 100)) << "step " << steps;
    left -= prompt_tokens;
  }
  EXPECT_EQ(steps, 64);  // 32 of each of two micro-batches
}

TEST(Scheduler, ALongPromptRunsInEveryStepOfThePipeline) {
  SchedulerConfig c = config();
  c.lag = 2;
  c.max_num_batched_tokens = 8;
  Driver driver(c);
  EXPECT_THAT(driver.step({prompt(24)}).kv_lengths, ElementsAre(8));
  EXPECT_THAT(driver.step().kv_lengths, ElementsAre(16));
  EXPECT_THAT(driver.step().kv_lengths, ElementsAre(24));
  EXPECT_TRUE(driver.step().empty()) << "its token is not known yet";
}

TEST(Scheduler, WithLookaheadTheDeviceFeedsItsOwnTokens) {
  SchedulerConfig c = config();
  c.lag = 1;
  c.lookahead = 1;
  Driver driver(c);
  EXPECT_THAT(driver.step({prompt(2)}).token_sources, ElementsAre(-1, -1));
  const BatchPlan& plan = driver.step();
  EXPECT_THAT(plan.positions, ElementsAre(2));
  EXPECT_THAT(plan.token_sources, ElementsAre(plan.sequence_slots[0]));
  EXPECT_THAT(driver.step().positions, ElementsAre(3));
}

// Two stages: a token is drawn by the second while the first runs the other micro-batch.
TEST(Scheduler, TheStagesOfAPipelineFeedTokensOneRoundLater) {
  SchedulerConfig c = config();
  c.lag = 3;
  c.lookahead = 1;
  Driver driver(c);
  EXPECT_THAT(driver.step({prompt(2)}).token_sources, ElementsAre(-1, -1));
  for (std::int32_t position = 2; position < 8; ++position) {
    EXPECT_TRUE(driver.step().empty()) << "its token is on the way";
    const BatchPlan& plan = driver.step();
    EXPECT_THAT(plan.positions, ElementsAre(position));
    EXPECT_THAT(plan.token_sources, ElementsAre(plan.sequence_slots[0]));
  }
}

// Else one micro-batch would have all that run, and the stages take turns.
TEST(Scheduler, MicroBatchesAreEvenWhereTheCacheHasNoRoomForAll) {
  for (const std::int32_t lookahead : {0, 1}) {
    SchedulerConfig c = config();
    c.lag = lookahead == 0 ? 1 : 3;
    c.lookahead = lookahead;
    c.max_num_seqs = 16;
    c.num_blocks = 8 * 8;  // of 8 sequences
    Driver driver(c);
    std::vector<std::shared_ptr<const Request>> prompts(16, prompt(2, 28));
    for (int step = 0; step < 20; ++step) {
      const BatchPlan& plan = driver.step(step == 0 ? prompts : decltype(prompts)());
      if (step < 8) continue;  // prompts run and make way for each other
      const int running = driver.scheduler.num_running();
      ASSERT_GT(driver.scheduler.num_waiting(), 4);
      EXPECT_NEAR(plan.num_sequences(), running / 2.0, 0.5)
          << "lookahead " << lookahead << ", step " << step << ", " << running << " run";
    }
  }
}

TEST(Scheduler, PenaltiesWaitForTheTokensTheyCount) {
  SchedulerConfig c = config();
  c.lag = 1;
  c.lookahead = 1;
  Driver driver(c);
  auto penalised = prompt(2);
  penalised->sampling.presence_penalty = 1;
  driver.step({penalised});
  EXPECT_TRUE(driver.step().empty());
  EXPECT_THAT(driver.step().tokens, ElementsAre(5));
}

TEST(Scheduler, ATokenDrawnAfterTheEndIsDropped) {
  SchedulerConfig c = config();
  c.lag = 1;
  c.lookahead = 1;
  Driver driver(c);
  driver.drawn = 2;  // EOS
  driver.step({prompt(2)});
  EXPECT_FALSE(driver.step().empty()) << "nobody knows yet that the first token was EOS";
  EXPECT_TRUE(driver.step().empty());
  ASSERT_EQ(driver.updates.size(), 1U);
  EXPECT_TRUE(driver.updates[0].finished && driver.updates[0].stopped_by_eos);
  EXPECT_GT(driver.scheduler.blocks_in_use(), 0) << "the surplus step is still in flight";
  driver.step();
  EXPECT_TRUE(driver.updates.empty());
  EXPECT_TRUE(driver.scheduler.idle());
  EXPECT_EQ(driver.scheduler.blocks_in_use(), 0);
}

TEST(Scheduler, TheNewestGivesWayAndStartsOver) {
  SchedulerConfig c = config();
  c.num_blocks = 5;
  c.forecast = false;
  Driver driver(c);
  driver.step({prompt(7, 12)});  // two blocks
  driver.step(
      {prompt(4, 12), prompt(1, 1)});  // one block; the third would leave less than one each
  EXPECT_EQ(driver.scheduler.num_running(), 2);
  EXPECT_EQ(driver.scheduler.num_waiting(), 1);
  while (driver.scheduler.num_preemptions() == 0) driver.step();
  EXPECT_EQ(driver.scheduler.num_running(), 1);
  EXPECT_EQ(driver.scheduler.running()[0]->number, 0);
  EXPECT_EQ(driver.scheduler.num_waiting(), 2) << "back in the queue, before the third";
  while (!driver.scheduler.idle()) driver.step();
  EXPECT_EQ(driver.ended.size(), 3U);
  EXPECT_EQ(driver.ended.front(), 0);
}

TEST(Scheduler, NobodyIsAdmittedWhoWouldGiveWayLater) {
  const auto preemptions = [](bool forecast) {
    SchedulerConfig c = config();
    c.forecast = forecast;
    Driver driver(c);
    std::vector<std::shared_ptr<const Request>> prompts;
    for (int i = 0; i < 30; ++i) prompts.push_back(prompt(4 + i % 9, 30 + i * 7 % 20));
    driver.step(prompts);
    while (!driver.scheduler.idle()) driver.step();
    EXPECT_EQ(driver.ended.size(), 30U);
    return driver.scheduler.num_preemptions();
  };
  EXPECT_EQ(preemptions(true), 0);
  EXPECT_GT(preemptions(false), 0);
}

std::vector<std::int64_t> numbers_running(const Scheduler& scheduler) {
  std::vector<std::int64_t> numbers;
  for (const Sequence* sequence : scheduler.running()) numbers.push_back(sequence->number);
  return numbers;
}

TEST(Scheduler, TheLongestBeginFirstWhenNothingMoreWillCome) {
  SchedulerConfig c = config();
  c.max_num_seqs = 2;
  Driver driver(c);
  driver.step({prompt(3, 5), prompt(3, 10), prompt(3, 30), prompt(3, 10)});
  EXPECT_THAT(numbers_running(driver.scheduler), ElementsAre(0, 1)) << "first come, first served";
  driver.step({prompt(3, 20), prompt(3, 31)}, {}, true);
  while (!driver.scheduler.idle()) driver.step();
  // 0 ends at step 5, then 5 (31) takes its place, then 2 (30) that of 1; equals by number.
  EXPECT_THAT(driver.started, ElementsAre(0, 1, 5, 2, 4, 3));
}

TEST(Scheduler, EndingsDecideThemselvesByTheSettings) {
  const auto run = [](const SamplingParams& sampling, std::int32_t drawn) {
    Driver driver(config());
    driver.drawn = drawn;
    auto request = prompt(3);
    request->sampling = sampling;
    driver.step({request});
    while (true) {
      driver.step();
      if (driver.updates.at(0).finished) {
        const SequenceUpdate& update = driver.updates[0];
        return std::tuple(driver.scheduler.next_step() - 1, update.reason, update.stopped_by_eos);
      }
    }
  };
  using Reason = FinishReason;
  EXPECT_EQ(run({.max_tokens = 4}, 5), std::tuple(4, Reason::length, false));
  EXPECT_EQ(run({.max_tokens = 4}, 2), std::tuple(1, Reason::stop, true));
  EXPECT_EQ(run({.max_tokens = 4, .ignore_eos = true}, 2), std::tuple(4, Reason::length, false));
  EXPECT_EQ(run({.max_tokens = 4, .stop_token_ids = {5}}, 5), std::tuple(1, Reason::stop, false));
  EXPECT_EQ(run({.max_tokens = 4, .min_tokens = 2}, 2), std::tuple(3, Reason::stop, true));
  EXPECT_EQ(run({.max_tokens = 1000}, 5), std::tuple(61, Reason::length, false)) << "64 - 3";
  EXPECT_EQ(run({.max_tokens = 1}, 2), std::tuple(1, Reason::stop, true)) << "EOS before length";
}

TEST(Scheduler, TheHostEndsASequenceWhereverItIs) {
  SchedulerConfig c = config();
  c.max_num_seqs = 1;
  c.lag = 1;
  Driver driver(c);
  driver.step({prompt(3), prompt(3)});
  EXPECT_EQ(driver.scheduler.num_waiting(), 1);
  driver.step({}, {0, 1});  // one in flight, one waiting
  EXPECT_EQ(driver.scheduler.num_waiting(), 0);
  EXPECT_EQ(driver.scheduler.num_running(), 0);
  EXPECT_GT(driver.scheduler.blocks_in_use(), 0);
  driver.step({}, {0, 7});  // gone already, and never there
  EXPECT_EQ(driver.scheduler.blocks_in_use(), 0);
  EXPECT_TRUE(driver.scheduler.idle());
}

TEST(Scheduler, WhatTheWholeCacheCannotHoldIsRefused) {
  SchedulerConfig c = config();
  c.num_blocks = 4;
  Driver driver(c);
  driver.step({prompt(10, 7)});  // 16 in the cache, the last token needs no place
  EXPECT_TRUE(driver.updates.empty());
  driver.step({prompt(10, 8)});
  ASSERT_EQ(driver.updates.size(), 2U);
  EXPECT_EQ(driver.updates[0].kind, SequenceUpdate::Kind::refused);
}

TEST(Scheduler, ARowWithoutATokenFails) {
  Driver driver(config());
  driver.drawn = -1;
  driver.step({prompt(3)});
  driver.step();
  ASSERT_EQ(driver.updates.size(), 1U);
  EXPECT_EQ(driver.updates[0].kind, SequenceUpdate::Kind::failed);
  EXPECT_TRUE(driver.updates[0].finished);
  EXPECT_TRUE(driver.scheduler.idle());
}

TEST(Scheduler, ResultsMustBeTheOnesThatAreDue) {
  Driver driver(config());
  driver.step({prompt(3)});
  std::vector<SequenceUpdate> updates;
  EXPECT_THROW(driver.scheduler.schedule(), std::logic_error);
  EXPECT_THROW(
      driver.scheduler.apply(StepResult{.step = 0, .tokens = {1, 2}, .logprobs = {}}, updates),
      std::logic_error);
  EXPECT_THROW(
      driver.scheduler.apply(StepResult{.step = 4, .tokens = {1}, .logprobs = {}}, updates),
      std::logic_error);
}

TEST(Scheduler, SettingsThatContradictEachOtherAreRefusedByName) {
  const auto complaint = [](auto change) {
    SchedulerConfig c = config();
    change(c);
    try {
      Scheduler scheduler(c);
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(complaint([](auto&) {}), "");
  EXPECT_EQ(complaint([](auto& c) { c.max_num_batched_tokens = 7; }),
            "max_num_batched_tokens is 7, but must be at least max_num_seqs, 8");
  EXPECT_THAT(complaint([](auto& c) { c.num_blocks = 0; }), HasSubstr("num_blocks is 0"));
  EXPECT_THAT(complaint([](auto& c) { c.lookahead = 1; }), HasSubstr("lookahead is 1"));
  EXPECT_THAT(complaint([](auto& c) { c.max_num_seqs = 0; }), HasSubstr("max_num_seqs is 0"));
}

}  // namespace
}  // namespace millrace
