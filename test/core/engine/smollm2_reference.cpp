#include "test/core/engine/smollm2_reference.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>

namespace millrace::test {
namespace {

constexpr const char* variable = "MILLRACE_SMOLLM2";

// Most likely tokens that a request asks for here.
constexpr std::int32_t most_likely = 20;

Request request_of(std::int64_t index, std::vector<std::int32_t> prompt) {
  Request request;
  request.index = index;
  request.key.offset = index;
  request.prompt_tokens = std::move(prompt);
  request.sampling.temperature = 0;
  request.sampling.ignore_eos = true;
  return request;
}

std::vector<std::int32_t> tokens_of(const nlohmann::json& prompt, const char* field) {
  return prompt.at(field).get<std::vector<std::int32_t>>();
}

}  // namespace

bool SmolLm2Reference::is_there() { return std::getenv(variable) != nullptr; }

SmolLm2Reference::SmolLm2Reference() : path_(std::getenv(variable)) {
  std::ifstream file(std::filesystem::path(MILLRACE_TEST_DATA) / "smollm2_reference.json");
  const nlohmann::json reference = nlohmann::json::parse(file);
  prompts_ = reference.at("prompts");
  steps_ = reference.at("steps").get<std::int32_t>();
}

void SmolLm2Reference::expect_greedy(const Comm& world, EngineOptions options,
                                     double tolerance) const {
  std::vector<Request> requests;
  for (const auto& prompt : prompts_) {
    Request& request = requests.emplace_back(request_of(static_cast<std::int64_t>(requests.size()),
                                                        tokens_of(prompt, "prompt_token_ids")));
    request.sampling.max_tokens = steps_;
    request.sampling.logprobs = 0;
  }
  options.max_num_batched_tokens = 512;
  options.max_num_seqs = 20;
  options.max_model_len = 256;
  options.block_size = 16;
  options.num_blocks = 320;
  const EngineRun run = run_engine(world, path_, options, requests);
  if (!run.is_leader) return;
  ASSERT_EQ(run.finished.size(), prompts_.size());
  for (std::size_t i = 0; i < prompts_.size(); ++i) {
    SCOPED_TRACE(prompts_[i].at("text").get<std::string>());
    const Completion& completion = run.finished[i].completions.at(0);
    EXPECT_EQ(completion.token_ids, tokens_of(prompts_[i], "token_ids"));
    for (std::size_t t = 0; t < completion.logprobs.size(); ++t) {
      EXPECT_NEAR(completion.logprobs[t].logprob, prompts_[i].at("logprobs")[t].get<double>(),
                  tolerance);
    }
  }
}

SmolLm2Reference::Difference SmolLm2Reference::compare_forced(const Comm& world,
                                                              EngineOptions options) const {
  std::vector<Request> requests;
  std::vector<std::pair<std::int32_t, double>> recorded;  // token and log-probability of each
  for (const auto& prompt : prompts_) {
    std::vector<std::int32_t> known = tokens_of(prompt, "prompt_token_ids");
    const std::vector<std::int32_t> tokens = tokens_of(prompt, "token_ids");
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      Request& request =
          requests.emplace_back(request_of(static_cast<std::int64_t>(requests.size()), known));
      request.sampling.max_tokens = 1;
      request.sampling.logprobs = most_likely;
      recorded.emplace_back(tokens[t], prompt.at("logprobs")[t].get<double>());
      known.push_back(tokens[t]);
    }
  }
  options.max_num_batched_tokens = 4096;
  options.max_num_seqs = 64;
  options.max_model_len = 256;
  options.block_size = 16;
  options.num_blocks = 64 * 256 / 16;
  const EngineRun run = run_engine(world, path_, options, requests);
  Difference difference;
  if (!run.is_leader) return difference;
  for (const FinishedRequest& finished : run.finished) {
    const auto& [token, logprob] = recorded[static_cast<std::size_t>(finished.index)];
    const auto& top = finished.completions.at(0).logprobs.at(0).top;
    const auto found = std::ranges::find(top, token, &std::pair<std::int32_t, float>::first);
    ++difference.compared;
    if (found == top.end()) {
      ++difference.missing;
      continue;
    }
    const double apart = std::abs(found->second - logprob);
    difference.mean += apart;
    difference.largest = std::max(difference.largest, apart);
  }
  difference.mean /= static_cast<double>(std::max<std::int64_t>(difference.compared, 1));
  return difference;
}

}  // namespace millrace::test
