// What a user may change without changing a result: the grid, the batch, the order, the chunks, the
// blocks; and how requests end. On the ranks that CMake names.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "comm/environment.hpp"
#include "core/model/model_folder.hpp"
#include "core/text/tokenizer.hpp"
#include "test/core/engine/run_engine.hpp"

namespace millrace {
namespace {

using test::EngineOptions;
using test::EngineRun;
using test::run_engine;

const Comm& world() {
  static const Environment environment;
  return environment.world();
}

bool is_leader() { return world().rank() == 0; }

std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(MILLRACE_TEST_DATA) / "models" / name;
}

// The most even grid of all ranks.
GridShape grid() {
  const int ranks = world().size();
  for (int pipeline = 3; pipeline > 1; --pipeline) {
    if (ranks % pipeline == 0) return {.data = 1, .pipeline = pipeline, .tensor = ranks / pipeline};
  }
  return {.data = 1, .pipeline = 1, .tensor = ranks};
}

// Requests of every kind, with prompts of 1 to 40 tokens.
std::vector<Request> sampled_requests(int count) {
  std::vector<Request> requests;
  for (int i = 0; i < count; ++i) {
    Request& request = requests.emplace_back();
    request.index = i;
    request.key.offset = 1000 + 71 * i;
    for (int t = 0; t <= (i * 7) % 40; ++t) request.prompt_tokens.push_back(3 + (t * 31 + i) % 300);
    SamplingParams& p = request.sampling;
    p.temperature = i % 4 == 0 ? 0.0F : 0.4F + 0.2F * static_cast<float>(i % 5);
    if (i % 3 == 0) p.top_k = 20;
    if (i % 3 == 1) p.top_p = 0.9F;
    if (i % 5 == 2) p.min_p = 0.05F;
    if (i % 4 == 3) p.repetition_penalty = 1.2F;
    if (i % 6 == 5) p.n = 2;
    p.max_tokens = 4 + i % 13;
    p.logprobs = i % 2 == 0 ? 3 : -1;
  }
  return requests;
}

void expect_same(const EngineRun& a, const EngineRun& b, bool bits) {
  if (!is_leader()) return;
  ASSERT_EQ(a.finished.size(), b.finished.size());
  for (std::size_t i = 0; i < a.finished.size(); ++i) {
    SCOPED_TRACE("request " + std::to_string(i));
    ASSERT_EQ(a.finished[i].completions.size(), b.finished[i].completions.size());
    for (std::size_t n = 0; n < a.finished[i].completions.size(); ++n) {
      const Completion& x = a.finished[i].completions[n];
      const Completion& y = b.finished[i].completions[n];
      EXPECT_EQ(x.token_ids, y.token_ids);
      EXPECT_EQ(x.finish_reason, y.finish_reason);
      ASSERT_EQ(x.logprobs.size(), y.logprobs.size());
      for (std::size_t t = 0; bits && t < x.logprobs.size(); ++t) {
        EXPECT_EQ(x.logprobs[t].logprob, y.logprobs[t].logprob);
        EXPECT_EQ(x.logprobs[t].rank, y.logprobs[t].rank);
        EXPECT_EQ(x.logprobs[t].top, y.logprobs[t].top);
      }
    }
  }
}

TEST(Engine, TheGridDoesNotChangeSampledTokens) {
  const auto requests = sampled_requests(24);
  for (const char* model : {"qwen3", "llama-f16", "gpt2"}) {
    SCOPED_TRACE(model);
    const EngineRun alone = run_engine(Comm(), fixture(model), {.grid = {}, .seed = 11}, requests);
    const EngineRun together =
        run_engine(world(), fixture(model), {.grid = grid(), .seed = 11}, requests);
    expect_same(alone, together, world().size() == 1);
  }
}

TEST(Engine, EveryReplicaGivesWhatOneGives) {
  if (world().size() % 2 != 0) GTEST_SKIP() << "two replicas need an even number of ranks";
  const auto requests = sampled_requests(12);
  const EngineRun alone = run_engine(Comm(), fixture("qwen2"), {.grid = {}}, requests);
  const EngineRun run = run_engine(world(), fixture("qwen2"),
                                   {.grid = {.data = 2, .tensor = world().size() / 2}}, requests);
  if (!run.is_leader) return;
  ASSERT_EQ(run.finished.size(), 6U);
  for (const FinishedRequest& finished : run.finished) {
    const auto& expected = alone.finished[static_cast<std::size_t>(finished.index)].completions;
    ASSERT_EQ(finished.completions.size(), expected.size());
    for (std::size_t n = 0; n < expected.size(); ++n) {
      EXPECT_EQ(finished.completions[n].token_ids, expected[n].token_ids);
    }
  }
}

// What waits here cannot be begun by a replica that is free.
TEST(Engine, ReplicasThatShareRequestsHoldNoMoreThanTheyHaveBegunOrTheNextStepsCan) {
  if (world().size() != 2) GTEST_SKIP() << "two replicas of one rank each";
  std::vector<Request> requests = sampled_requests(48);
  for (Request& request : requests) {
    request.prompt_tokens.assign(40, 7);
    request.sampling.n = 1;
  }
  for (const GridShape shape : {GridShape{.data = 2}, GridShape{.pipeline = 2}}) {
    EngineOptions options{.grid = shape};
    options.max_num_seqs = 20;
    options.max_num_batched_tokens = 64;
    options.requests_at_a_time = requests.size();
    std::int64_t most = 0;  // beyond what has been begun
    options.on_step = [&](const ReplicaProgress& progress) {
      const std::int64_t begun = progress.running + progress.requests_done;
      most = std::max(most, progress.waiting - begun);
    };
    const EngineRun run = run_engine(world(), fixture("qwen3"), options, requests);
    if (!run.is_leader) continue;
    EXPECT_EQ(run.finished.size(), requests.size() / static_cast<std::size_t>(shape.data));
    if (shape.data == 2) {
      EXPECT_LE(most, 4 * 64 / 40 + 1);
    } else {
      EXPECT_GT(most, 20);  // alone it looks further
    }
  }
}

TEST(Engine, BatchOrderChunksAndBlocksDoNotChangeABit) {
  const auto requests = sampled_requests(20);
  auto reversed = requests;
  std::ranges::reverse(reversed);
  const auto model = fixture("mistral-window");
  const EngineRun expected = run_engine(world(), model, {.grid = grid()}, requests);
  if (is_leader()) {
    ASSERT_EQ(expected.finished.size(), 20U);
  }
  EngineOptions options{.grid = grid()};
  expect_same(expected, run_engine(world(), model, options, reversed), true);
  options.max_num_seqs = 1;
  expect_same(expected, run_engine(world(), model, options, requests), true);
  options.max_num_seqs = 20;
  options.max_num_batched_tokens = 1000;
  expect_same(expected, run_engine(world(), model, options, reversed), true);
  options.max_num_batched_tokens = 20;
  options.block_size = 16;
  expect_same(expected, run_engine(world(), model, options, requests), true);
  options.block_size = 2;
  options.num_blocks = 40;  // some must start over
  options.forecast = false;
  const EngineRun cramped = run_engine(world(), model, options, requests);
  expect_same(expected, cramped, true);
  if (is_leader()) {
    EXPECT_GT(cramped.last.preemptions, 0);
    EXPECT_EQ(cramped.last.blocks_in_use, 0);
  }
}

// Logits are held for 256 rows at a time on CPUs (core/engine/workspace.hpp).
TEST(Engine, MoreRowsThanAPassHoldsDoNotChangeABit) {
  if (world().size() > 1) GTEST_SKIP() << "stages share the rows";
  const auto requests = sampled_requests(300);
  const auto model = fixture("llama-f16");
  EngineOptions options{.grid = {}, .num_blocks = 8192};
  const EngineRun expected = run_engine(world(), model, options, requests);
  options.max_num_seqs = 350;
  options.max_num_batched_tokens = 8192;
  std::int32_t most = 0;
  options.on_step = [&](const ReplicaProgress& progress) {
    most = std::max(most, progress.running);
  };
  expect_same(expected, run_engine(world(), model, options, requests), true);
  EXPECT_GT(most, 256);
}

TEST(Engine, MadeUpWeightsAreTheSameModelOnEveryGrid) {
  const ModelDescription model = describe_model(find_model(fixture("llama-linear").string()));
  auto requests = sampled_requests(6);
  for (Request& request : requests) request.sampling.temperature = 0;
  const EngineRun alone = test::run_dummy_engine(Comm(), model, {.grid = {}}, requests);
  const EngineRun together = test::run_dummy_engine(world(), model, {.grid = grid()}, requests);
  expect_same(alone, together, world().size() == 1);
}

TEST(Engine, StopTokensEndAtTheFirstThatIsDrawn) {
  auto requests = sampled_requests(8);
  for (Request& request : requests) request.sampling.max_tokens = 12;
  const EngineRun plain = run_engine(world(), fixture("qwen2"), {.grid = grid()}, requests);
  // The leader knows what was drawn; all ranks must ask for the same.
  std::int64_t stop = is_leader() ? plain.finished[3].completions[0].token_ids[4] : 0;
  stop = world().all_reduce_max(stop);
  for (Request& request : requests) {
    request.sampling.stop_token_ids = {static_cast<std::int32_t>(stop)};
  }
  const EngineRun stopped = run_engine(world(), fixture("qwen2"), {.grid = grid()}, requests);
  if (!is_leader()) return;
  bool any_stopped = false;
  for (std::size_t i = 0; i < plain.finished.size(); ++i) {
    for (std::size_t n = 0; n < plain.finished[i].completions.size(); ++n) {
      std::vector<std::int32_t> expected = plain.finished[i].completions[n].token_ids;
      const auto at = std::ranges::find(expected, static_cast<std::int32_t>(stop));
      const bool stops = at != expected.end();
      if (stops) expected.erase(at + 1, expected.end());
      const Completion& completion = stopped.finished[i].completions[n];
      EXPECT_EQ(completion.token_ids, expected);
      EXPECT_EQ(completion.finish_reason, stops ? FinishReason::stop : FinishReason::length);
      EXPECT_EQ(completion.stop_reason, stops ? std::to_string(stop) : "");
      any_stopped |= stops;
    }
  }
  EXPECT_TRUE(any_stopped);
}

TEST(Engine, StopStringsEndASequenceThatStillRuns) {
  const Tokenizer tokenizer = load_tokenizer(fixture("gpt2"));
  auto requests = sampled_requests(8);
  for (Request& request : requests) request.sampling.max_tokens = 40;
  EngineOptions options{.grid = grid(), .tokenizer = &tokenizer};
  const EngineRun plain = run_engine(world(), fixture("gpt2"), options, requests);
  std::string stop;
  if (is_leader()) {
    const std::string& text = plain.finished[5].completions[0].text;
    stop = text.substr(text.size() / 2, 3);
  }
  Bytes bytes(as_bytes(stop).begin(), as_bytes(stop).end());
  world().broadcast_bytes(bytes, 0);
  stop = as_text(bytes);
  for (Request& request : requests) request.sampling.stop = {stop};
  const EngineRun stopped = run_engine(world(), fixture("gpt2"), options, requests);
  if (!is_leader()) return;
  ASSERT_EQ(stopped.finished.size(), plain.finished.size());
  EXPECT_LT(stopped.last.output_tokens, plain.last.output_tokens);
  EXPECT_EQ(stopped.last.blocks_in_use, 0);
  for (std::size_t i = 0; i < plain.finished.size(); ++i) {
    for (std::size_t n = 0; n < plain.finished[i].completions.size(); ++n) {
      const std::string& whole = plain.finished[i].completions[n].text;
      const Completion& completion = stopped.finished[i].completions[n];
      const std::size_t at = whole.find(stop);
      EXPECT_EQ(completion.text, whole.substr(0, at));
      EXPECT_EQ(completion.stop_reason, at == std::string::npos ? "" : stop);
    }
  }
}

TEST(Engine, WhatTheCacheCannotHoldIsAnErrorAndTheRestGoesOn) {
  auto requests = sampled_requests(5);
  requests[2].prompt_tokens.assign(60, 7);
  requests[2].sampling.max_tokens = 60;
  requests[4].prompt_tokens.clear();
  requests[4].error = "line 5 is no prompt";
  const EngineRun run = run_engine(
      world(), fixture("llama-yarn"),
      {.grid = grid(), .max_model_len = 128, .block_size = 4, .num_blocks = 20}, requests);
  if (!is_leader()) return;
  ASSERT_EQ(run.finished.size(), 5U);
  EXPECT_EQ(run.finished[2].error,
            "60 prompt tokens and up to 60 new ones need more than the 80 tokens of the KV cache");
  EXPECT_EQ(run.finished[4].error, "line 5 is no prompt");
  for (const std::size_t i : {0, 1, 3}) {
    EXPECT_EQ(run.finished[i].error, "");
    EXPECT_EQ(static_cast<std::int32_t>(run.finished[i].completions[0].token_ids.size()),
              requests[i].sampling.max_tokens);
  }
  EXPECT_EQ(run.last.requests_done, 5);
  EXPECT_EQ(run.last.requests_failed, 2);
}

TEST(Engine, SequencesEndAtTheModelsLength) {
  auto requests = sampled_requests(6);
  for (Request& request : requests) request.sampling.max_tokens = 1000;
  const EngineRun run =
      run_engine(world(), fixture("opt-pre"), {.grid = grid(), .max_model_len = 50}, requests);
  if (!is_leader()) return;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    for (const Completion& completion : run.finished[i].completions) {
      if (completion.finish_reason == FinishReason::stop) continue;  // met EOS
      EXPECT_EQ(completion.token_ids.size() + requests[i].prompt_tokens.size(), 50U);
    }
  }
}

// Asks a running engine to stop after the first step in which something is finished.
EngineRun run_until_stopped(const std::vector<Request>& requests, double grace_seconds) {
  StopRequest stop;
  EngineOptions options{.grid = grid(), .max_num_seqs = 4, .num_blocks = 40, .stop = &stop};
  options.on_step = [&](const ReplicaProgress& progress) {
    if (progress.requests_done > 0 && !stop.is_made()) stop.make("the test", grace_seconds);
  };
  return run_engine(world(), fixture("qwen2"), options, requests);
}

TEST(Engine, AStopFinishesWhatHasBegunAndNothingElse) {
  const auto requests = sampled_requests(30);
  const EngineRun all = run_engine(world(), fixture("qwen2"), {.grid = grid()}, requests);
  const EngineRun run = run_until_stopped(requests, 1000);
  if (!is_leader()) return;
  EXPECT_FALSE(run.is_complete);
  EXPECT_GT(run.dropped, 0);  // taken from the source, but not begun
  EXPECT_GT(run.finished.size(), 1U);
  EXPECT_LT(run.finished.size(), 30U);
  EXPECT_EQ(run.last.running, 0);
  EXPECT_EQ(run.last.blocks_in_use, 0);
  for (const FinishedRequest& finished : run.finished) {
    const FinishedRequest& as_ever = all.finished[static_cast<std::size_t>(finished.index)];
    ASSERT_EQ(finished.completions.size(), as_ever.completions.size());
    for (std::size_t n = 0; n < finished.completions.size(); ++n) {
      EXPECT_EQ(finished.completions[n].token_ids, as_ever.completions[n].token_ids);
    }
  }
}

TEST(Engine, AStopWithoutGraceDropsWhatRuns) {
  const auto requests = sampled_requests(30);
  const EngineRun graceful = run_until_stopped(requests, 1000);
  const EngineRun run = run_until_stopped(requests, 0);
  if (!is_leader()) return;
  EXPECT_FALSE(run.is_complete);
  EXPECT_GT(run.dropped, graceful.dropped);
  EXPECT_LT(run.finished.size(), graceful.finished.size());
  EXPECT_EQ(run.last.running, 0);
  EXPECT_EQ(run.last.waiting, 0);
  EXPECT_EQ(run.last.blocks_in_use, 0);
}

TEST(Engine, AStopThatComesWhenEverythingHasBegunLosesNothing) {
  const EngineRun run = run_until_stopped(sampled_requests(3), 1000);
  if (!is_leader()) return;
  EXPECT_TRUE(run.is_complete);
  EXPECT_EQ(run.finished.size(), 3U);
}

TEST(Engine, AnEngineThatWaitsForPromptsStopsWhenAsked) {
  StopRequest stop;
  const auto start = std::chrono::steady_clock::now();
  std::jthread asks([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    stop.make("the test", 1000);
  });
  const EngineRun run =
      run_engine(world(), fixture("qwen2"), {.grid = grid(), .stop = &stop, .endless = true}, {});
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  EXPECT_EQ(run.times.steps, 0);
  EXPECT_EQ(run.is_complete, !is_leader());
}

TEST(Engine, NoRequestsNoWork) {
  const EngineRun run = run_engine(world(), fixture("gpt2"), {.grid = grid()}, {});
  EXPECT_TRUE(run.finished.empty());
  EXPECT_EQ(run.times.steps, 0);
}

}  // namespace
}  // namespace millrace
