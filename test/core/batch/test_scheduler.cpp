// The scheduler's decisions in small cases worked out by hand.
#include "core/batch/scheduler.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::shared_ptr<Request> prompt(std::int32_t length, std::int32_t max_tokens = 100) {
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

SchedulerConfig config() {
  return {.max_num_batched_tokens = 16,
          .max_num_seqs = 8,
          .max_model_len = 64,
          .block_size = 4,
          .num_blocks = 64,
          .lag = 0,
          .lookahead = 0,
          .eos_token_ids = {2}};
}

// Of a GPU that is one stage.
SchedulerConfig paced_config(std::int32_t chunk, std::int32_t max_num_seqs,
                             std::int32_t num_blocks) {
  SchedulerConfig c = config();
  c.lag = c.lookahead = 1;
  c.prompt_chunk = chunk;
  c.max_num_batched_tokens = 4096;
  c.max_num_seqs = max_num_seqs;
  c.max_model_len = 512;
  c.block_size = 16;
  c.num_blocks = num_blocks;
  return c;
}

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

// Sequences as long as each other: begun together they would end together.
TEST(Scheduler, ACacheThatLimitsStaysFull) {
  struct Use {
    double mean = 0;
    std::int64_t steps = 0;
  };
  const auto use = [](std::int32_t chunk, std::int32_t max_num_seqs) {
    const SchedulerConfig c = paced_config(chunk, max_num_seqs, 4000);
    Driver driver(c);
    const auto request = prompt(200, 200);
    request->sampling.ignore_eos = true;
    std::vector<std::shared_ptr<const Request>> prompts(2000, request);
    Use result;
    double sum = 0;
    for (; result.steps == 0 || !driver.scheduler.idle(); ++result.steps) {
      driver.step(result.steps == 0 ? prompts : decltype(prompts)(), {}, result.steps == 0);
      sum += driver.scheduler.blocks_in_use();
    }
    EXPECT_EQ(driver.ended.size(), prompts.size());
    EXPECT_EQ(driver.scheduler.num_preemptions(), 0);
    result.mean = sum / static_cast<double>(result.steps) / c.num_blocks;
    return result;
  };
  const Use at_once = use(0, 512);
  const Use paced = use(64, 512);
  EXPECT_LT(at_once.mean, 0.8);
  EXPECT_GT(paced.mean, 0.85);
  EXPECT_LT(static_cast<double>(paced.steps), 0.9 * static_cast<double>(at_once.steps));
  // It holds 202 of all ages, and 153 at their ends.
  const auto steps = [&](std::int32_t chunk) { return static_cast<double>(use(chunk, 180).steps); };
  EXPECT_LT(steps(64), 0.95 * steps(0));
}

// Those that begin in a crowd end in one, and leave the cache empty, where it is known when they
// will end.
TEST(Scheduler, AStartKeepsThePaceWhereLengthsAreKnown) {
  const auto running = [](bool are_known) {
    // Blocks for 617 of them at their ends, so one begins in a step.
    SchedulerConfig c = paced_config(64, 1000, 40'000);
    c.max_model_len = 1024;
    Driver driver(c);
    const auto request = prompt(20, 1000);
    request->sampling.ignore_eos = are_known;
    std::vector<std::shared_ptr<const Request>> prompts(3000, request);
    for (int step = 0; step < 100; ++step) {
      driver.step(step == 0 ? prompts : decltype(prompts)());
    }
    return driver.scheduler.num_running();
  };
  EXPECT_NEAR(running(true), 100, 10);
  EXPECT_GT(running(false), 180);
}

// A step with prompts costs more than its tokens: where decodes keep the products busy, they come
// in fewer steps.
TEST(Scheduler, PromptsAreGatheredBesideManyDecodes) {
  // Blocks for 813 of them at their mean length, at 40 tokens a step.
  const SchedulerConfig c = paced_config(64, 1000, 12'000);
  Driver driver(c);
  const auto request = prompt(20, 400);
  request->sampling.ignore_eos = true;
  std::vector<std::shared_ptr<const Request>> prompts(4000, request);
  struct Prompts {
    int steps = 0;
    int tokens = 0;
  } few, many;
  for (int step = 0; step == 0 || driver.scheduler.num_waiting() > 0; ++step) {
    const BatchPlan& plan = driver.step(step == 0 ? prompts : decltype(prompts)());
    const int tokens = plan.num_tokens() - plan.decode_sequences;
    if (tokens == 0) continue;
    Prompts& beside = plan.decode_sequences > 512 ? many : few;
    ++beside.steps;
    beside.tokens += tokens;
  }
  ASSERT_GT(few.steps, 100);
  ASSERT_GT(many.steps, 100);
  EXPECT_LT(few.tokens / few.steps, 130);
  EXPECT_GT(many.tokens / many.steps, 200);
}

// One answer takes as long as all the others could: they fill the steps that it takes anyway.
TEST(Scheduler, PromptsThatCanWaitForTheLongestAnswerDo) {
  const auto run = [](std::int32_t chunk) {
    const SchedulerConfig c = paced_config(chunk, 256, 8192);
    Driver driver(c);
    std::vector<std::shared_ptr<const Request>> prompts;
    for (int i = 0; i < 200; ++i) {
      auto request = prompt(50, i == 150 ? 400 : 10 + i % 40);
      request->sampling.ignore_eos = true;
      prompts.push_back(std::move(request));
    }
    std::int64_t steps = 0;
    std::int32_t largest = 0;
    for (; steps == 0 || !driver.scheduler.idle(); ++steps) {
      const BatchPlan& plan =
          driver.step(steps == 0 ? prompts : decltype(prompts)(), {}, steps == 0);
      largest = std::max(largest, plan.num_tokens());
    }
    EXPECT_EQ(driver.ended.size(), prompts.size());
    return std::pair(steps, largest);
  };
  EXPECT_EQ(run(0), std::pair(std::int64_t{402}, 4096));
  EXPECT_EQ(run(16), std::pair(std::int64_t{402}, 256));
}

TEST(Scheduler, AShortQueueIsAllThereIsUnlessOthersShareTheRequests) {
  const auto tokens_of_first_step = [](bool shares) {
    SchedulerConfig c = paced_config(16, 256, 8192);
    c.shares_requests = shares;
    Driver driver(c);
    std::vector<std::shared_ptr<const Request>> prompts(200, prompt(50, 10));
    prompts.front() = prompt(50, 400);
    for (auto& request : prompts) {
      auto known = std::make_shared<Request>(*request);
      known->sampling.ignore_eos = true;
      request = known;
    }
    return driver.step(prompts).num_tokens();
  };
  EXPECT_LE(tokens_of_first_step(false), 256);
  EXPECT_EQ(tokens_of_first_step(true), 4096);
}

// A step's products take whole tiles of 128 rows, and of 256 where there are more than 512.
TEST(Scheduler, StepsThatArePacedFillTheirTiles) {
  const SchedulerConfig c = paced_config(64, 512, 4000);
  Driver driver(c);
  std::vector<std::shared_ptr<const Request>> prompts(1000, prompt(200, 200));
  int paced = 0;
  for (int step = 0; step == 0 || driver.scheduler.num_waiting() > 0; ++step) {
    const BatchPlan& plan = driver.step(step == 0 ? prompts : decltype(prompts)());
    // What the cache has no room for yet is missing from a step.
    const bool is_cut = driver.scheduler.blocks_in_use() > c.num_blocks / 2;
    if (plan.max_query_length == 1 || is_cut) continue;
    EXPECT_EQ(plan.num_tokens() % (plan.num_tokens() > 512 ? 256 : 128), 0) << "step " << step;
    ++paced;
  }
  EXPECT_GT(paced, 50);
}

// Short prompts of long answers come slowly, but never stop.
TEST(Scheduler, PromptsGoOnHoweverMuchIsDecoded) {
  // Blocks for about 790 of them at their mean length, 399 at their full one.
  SchedulerConfig c = paced_config(64, 2000, 100'000);
  c.max_model_len = 4096;
  Driver driver(c);
  std::vector<std::shared_ptr<const Request>> prompts(2000, prompt(2, 4000));
  int pause = 0;
  for (int step = 0; driver.scheduler.num_running() < 390; ++step) {
    const int before = driver.scheduler.num_running();
    driver.step(step == 0 ? prompts : decltype(prompts)());
    pause = driver.scheduler.num_running() > before ? 0 : pause + 1;
    ASSERT_LE(pause, 32) << driver.scheduler.num_running() << " run";
  }
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
