// SmolLM2-135M against what transformers gives for the same dequantized weights: 20 prompts, 64
// greedy tokens each. MILLRACE_SMOLLM2 names the GGUF file (check.sh sets it); without it the test
// is skipped.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "comm/environment.hpp"
#include "core/model/model_folder.hpp"
#include "test/core/engine/run_engine.hpp"

namespace millrace {
namespace {

TEST(SmolLm2, GreedyContinuationsEqualTheReference) {
  const char* path = std::getenv("MILLRACE_SMOLLM2");
  if (path == nullptr) GTEST_SKIP() << "skipped: MILLRACE_SMOLLM2 is not set";
  const Environment environment;
  std::ifstream file(std::filesystem::path(MILLRACE_TEST_DATA) / "smollm2_reference.json");
  const nlohmann::json reference = nlohmann::json::parse(file);
  const auto& prompts = reference.at("prompts");
  std::vector<Request> requests;
  for (const auto& prompt : prompts) {
    Request& request = requests.emplace_back();
    request.index = static_cast<std::int64_t>(requests.size());
    request.key.offset = request.index;
    request.prompt_tokens = prompt.at("prompt_token_ids").get<std::vector<std::int32_t>>();
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = reference.at("steps").get<std::int32_t>();
    request.sampling.logprobs = 0;
  }
  const auto run = test::run_engine(environment.world(), path,
                                    {.grid = {.tensor = environment.world().size()},
                                     .max_num_batched_tokens = 512,
                                     .max_num_seqs = 20,
                                     .max_model_len = 256,
                                     .block_size = 16,
                                     .num_blocks = 320,
                                     .dtype = DType::f32},
                                    requests);
  if (environment.world().rank() != 0) return;
  ASSERT_EQ(run.finished.size(), prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    SCOPED_TRACE(prompts[i].at("text").get<std::string>());
    const Completion& completion = run.finished[i].completions.at(0);
    EXPECT_EQ(completion.token_ids, prompts[i].at("token_ids").get<std::vector<std::int32_t>>());
    for (std::size_t t = 0; t < completion.logprobs.size(); ++t) {
      EXPECT_NEAR(completion.logprobs[t].logprob, prompts[i].at("logprobs")[t].get<double>(), 2e-3);
    }
  }
}

}  // namespace
}  // namespace millrace
