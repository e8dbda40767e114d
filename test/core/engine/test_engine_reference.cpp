// The whole engine against what transformers recorded for the fixture models (test/data), on every
// grid that the number of ranks allows.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/environment.hpp"
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

std::vector<GridShape> grids() {
  std::vector<GridShape> shapes;
  for (int tensor = 1; tensor <= 4; ++tensor) {
    for (int pipeline = 1; pipeline <= 3; ++pipeline) {
      if (tensor * pipeline == world().size()) {
        shapes.push_back({.data = 1, .pipeline = pipeline, .tensor = tensor});
      }
    }
  }
  return shapes;
}

class FixtureModel : public testing::TestWithParam<const char*> {
 protected:
  FixtureModel() {
    std::ifstream file(folder() / "reference.json");
    reference_ = nlohmann::json::parse(file);
  }

  static std::filesystem::path folder() {
    return std::filesystem::path(MILLRACE_TEST_DATA) / "models" / GetParam();
  }

  std::vector<Request> requests() const {
    std::vector<Request> requests;
    for (const auto& prompt : reference_.at("prompts")) {
      Request& request = requests.emplace_back();
      request.index = static_cast<std::int64_t>(requests.size());
      request.key.offset = 100 * request.index;
      request.prompt_tokens = prompt.at("prompt_token_ids").get<std::vector<std::int32_t>>();
      request.sampling.temperature = 0;
      request.sampling.max_tokens = reference_.at("steps").get<std::int32_t>();
      request.sampling.ignore_eos = true;
      request.sampling.logprobs = 5;
    }
    return requests;
  }

  void expect_reference(const EngineRun& run) const {
    if (world().rank() != 0) return;
    const auto& prompts = reference_.at("prompts");
    ASSERT_EQ(run.finished.size(), prompts.size());
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      SCOPED_TRACE("prompt " + std::to_string(i));
      const FinishedRequest& finished = run.finished[i];
      ASSERT_EQ(finished.error, "");
      const Completion& completion = finished.completions.at(0);
      ASSERT_EQ(completion.token_ids, prompts[i].at("token_ids").get<std::vector<std::int32_t>>());
      EXPECT_EQ(completion.finish_reason, FinishReason::length);
      ASSERT_EQ(completion.logprobs.size(), completion.token_ids.size());
      for (std::size_t step = 0; step < completion.logprobs.size(); ++step) {
        const TokenLogprobs& logprobs = completion.logprobs[step];
        EXPECT_EQ(logprobs.token, completion.token_ids[step]);
        EXPECT_EQ(logprobs.rank, 1);
        EXPECT_NEAR(logprobs.logprob, prompts[i].at("logprobs")[step].get<double>(), 1e-4);
        const auto& top = prompts[i].at("top_logprobs")[step];
        ASSERT_EQ(logprobs.top.size(), top.size());
        for (std::size_t k = 0; k < top.size(); ++k) {
          // Neighbours may swap where they are closer than the tolerance: values are compared.
          EXPECT_NEAR(logprobs.top[k].second, top[k][1].get<double>(), 1e-4);
        }
      }
    }
  }

  nlohmann::json reference_;
};

TEST_P(FixtureModel, GivesTheReferenceOnEveryGrid) {
  for (const GridShape& grid : grids()) {
    SCOPED_TRACE(to_string(grid));
    expect_reference(run_engine(world(), folder(), {.grid = grid}, requests()));
  }
}

TEST_P(FixtureModel, GivesTheReferenceInSmallChunksAndWithPreemption) {
  for (const GridShape& grid : grids()) {
    SCOPED_TRACE(to_string(grid));
    const EngineRun run = run_engine(world(), folder(),
                                     {.grid = grid,
                                      .max_num_batched_tokens = 7,
                                      .max_num_seqs = 7,
                                      .block_size = 3,
                                      .num_blocks = 48},
                                     requests());
    expect_reference(run);
    if (world().rank() == 0) {
      EXPECT_GT(run.last.preemptions, 0);
      EXPECT_EQ(run.last.blocks_in_use, 0);
      EXPECT_EQ(run.last.requests_done, 8);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Engine, FixtureModel,
                         testing::Values("gpt2", "llama-bf16-sharded", "llama-dynamic", "llama-f16",
                                         "llama-gguf", "llama-linear", "llama-tied-bias",
                                         "llama-yarn", "mistral-window", "opt-post", "opt-pre",
                                         "qwen2", "qwen3"),
                         [](const auto& model) {
                           std::string name = model.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace millrace
