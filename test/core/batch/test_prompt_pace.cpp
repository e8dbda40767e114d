// At which pace the scheduler lets prompts begin beside decodes, once it has seen all of them.
#include "core/batch/prompt_pace.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "test/core/batch/scheduler_driver.hpp"

namespace millrace {
namespace {

using test::config;
using test::Driver;
using test::prompt;

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

struct CacheUse {
  double mean = 0;
  std::int64_t steps = 0;
};

// Of 2,000 sequences as long as each other: begun together they would end together.
CacheUse use_of_cache(const SchedulerConfig& c) {
  Driver driver(c);
  const auto request = prompt(200, 200);
  request->sampling.ignore_eos = true;
  std::vector<std::shared_ptr<const Request>> prompts(2000, request);
  CacheUse use;
  double sum = 0;
  for (; use.steps == 0 || !driver.scheduler.idle(); ++use.steps) {
    driver.step(use.steps == 0 ? prompts : decltype(prompts)(), {}, use.steps == 0);
    sum += driver.scheduler.blocks_in_use();
  }
  EXPECT_EQ(driver.ended.size(), prompts.size());
  EXPECT_EQ(driver.scheduler.num_preemptions(), 0);
  use.mean = sum / static_cast<double>(use.steps) / c.num_blocks;
  return use;
}

TEST(PromptPace, ACacheThatLimitsStaysFull) {
  const auto use = [](std::int32_t chunk, std::int32_t max_num_seqs) {
    return use_of_cache(paced_config(chunk, max_num_seqs, 4000));
  };
  const CacheUse at_once = use(0, 512);
  const CacheUse paced = use(64, 512);
  EXPECT_LT(at_once.mean, 0.8);
  EXPECT_GT(paced.mean, 0.85);
  EXPECT_LT(static_cast<double>(paced.steps), 0.9 * static_cast<double>(at_once.steps));
  // It holds 202 of all ages, and 153 at their ends.
  const auto steps = [&](std::int32_t chunk) { return static_cast<double>(use(chunk, 180).steps); };
  EXPECT_LT(steps(64), 0.95 * steps(0));
}

// In a pipeline as well, of GPUs (lookahead 1) or of hosts' GPUs that cannot feed each other.
TEST(PromptPace, ACacheThatLimitsAPipelineStaysFull) {
  for (const std::int32_t lookahead : {0, 1}) {
    const auto use = [&](std::int32_t chunk) {
      SchedulerConfig c = paced_config(chunk, 512, 4000);
      c.lag = lookahead == 0 ? 2 : 3;
      c.lookahead = lookahead;
      return use_of_cache(c);
    };
    const CacheUse at_once = use(0);
    const CacheUse paced = use(64);
    EXPECT_LT(at_once.mean, 0.8) << "lookahead " << lookahead;
    EXPECT_GT(paced.mean, 0.85) << "lookahead " << lookahead;
    EXPECT_LT(static_cast<double>(paced.steps), 0.9 * static_cast<double>(at_once.steps))
        << "lookahead " << lookahead;
  }
}

// Those that begin in a crowd end in one, and leave the cache empty, where it is known when they
// will end.
TEST(PromptPace, AStartKeepsThePaceWhereLengthsAreKnown) {
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
TEST(PromptPace, PromptsAreGatheredBesideManyDecodes) {
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
TEST(PromptPace, PromptsThatCanWaitForTheLongestAnswerDo) {
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

TEST(PromptPace, AShortQueueIsAllThereIsUnlessOthersShareTheRequests) {
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
TEST(PromptPace, StepsThatArePacedFillTheirTiles) {
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

// With chunks of less than a tile, as those of models whose weights take long to read.
TEST(PromptPace, PromptsDoNotWaitWhereNothingDecodes) {
  // Blocks for 53 of them at their mean length: 5 tokens of prompts for each step.
  SchedulerConfig c = paced_config(16, 1000, 6000);
  c.max_model_len = 4096;
  Driver driver(c);
  const auto request = prompt(300, 3000);
  request->sampling.ignore_eos = true;
  const std::vector<std::shared_ptr<const Request>> prompts(1000, request);
  for (int step = 0; step < 3; ++step) {
    const BatchPlan& plan = driver.step(step == 0 ? prompts : decltype(prompts)());
    ASSERT_EQ(plan.decode_sequences, 0) << "step " << step;
    ASSERT_GE(plan.num_tokens(), 128) << "step " << step;
  }
}

// Short prompts of long answers come slowly, but never stop.
TEST(PromptPace, PromptsGoOnHoweverMuchIsDecoded) {
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

}  // namespace
}  // namespace millrace
