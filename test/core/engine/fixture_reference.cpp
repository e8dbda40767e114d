#include "test/core/engine/fixture_reference.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "core/model/model_folder.hpp"
#include "core/model/partition.hpp"
#include "kernels/base/error.hpp"

namespace millrace::test {

namespace {

using Tokens = std::vector<std::int32_t>;

Request request_for(Tokens prompt, std::size_t number, std::int32_t max_tokens,
                    std::int32_t logprobs) {
  Request request;
  request.index = static_cast<std::int64_t>(number);
  request.key.offset = 100 * request.index;
  request.prompt_tokens = std::move(prompt);
  request.sampling.temperature = 0;
  request.sampling.max_tokens = max_tokens;
  request.sampling.ignore_eos = true;
  request.sampling.logprobs = logprobs;
  return request;
}

}  // namespace

std::string test_name(std::string model) {
  std::ranges::replace(model, '-', '_');
  return model;
}

FixtureReference::FixtureReference(const std::string& model)
    : folder_(std::filesystem::path(MILLRACE_TEST_DATA) / "models" / model) {
  std::ifstream file(folder_ / "reference.json");
  reference_ = nlohmann::json::parse(file);
}

std::vector<GridShape> FixtureReference::grids(int ranks) const {
  const ModelSpec spec = describe_model(find_model(folder_.string())).spec;
  std::vector<GridShape> shapes;
  for (int data = 1; data <= ranks; ++data) {
    for (int pipeline = 1; data * pipeline <= ranks; ++pipeline) {
      const GridShape shape{.data = data, .pipeline = pipeline, .tensor = ranks / data / pipeline};
      if (shape.ranks() != ranks) continue;
      try {
        check_partition(spec, shape);
        shapes.push_back(shape);
      } catch (const UserError&) {
      }
    }
  }
  return shapes;
}

std::vector<Request> FixtureReference::greedy() const {
  std::vector<Request> requests;
  for (const auto& prompt : reference_.at("prompts")) {
    requests.push_back(request_for(prompt.at("prompt_token_ids").get<Tokens>(), requests.size(),
                                   reference_.at("steps").get<std::int32_t>(), 5));
  }
  return requests;
}

void FixtureReference::expect_greedy(const std::vector<FinishedRequest>& finished,
                                     double tolerance) const {
  const auto& prompts = reference_.at("prompts");
  for (const FinishedRequest& request : finished) {
    SCOPED_TRACE("prompt " + std::to_string(request.index));
    const auto& prompt = prompts.at(static_cast<std::size_t>(request.index));
    ASSERT_EQ(request.error, "");
    const Completion& completion = request.completions.at(0);
    ASSERT_EQ(completion.token_ids, prompt.at("token_ids").get<Tokens>());
    EXPECT_EQ(completion.finish_reason, FinishReason::length);
    ASSERT_EQ(completion.logprobs.size(), completion.token_ids.size());
    for (std::size_t step = 0; step < completion.logprobs.size(); ++step) {
      const TokenLogprobs& logprobs = completion.logprobs[step];
      EXPECT_EQ(logprobs.token, completion.token_ids[step]);
      EXPECT_EQ(logprobs.rank, 1);
      EXPECT_NEAR(logprobs.logprob, prompt.at("logprobs")[step].get<double>(), tolerance);
      const auto& top = prompt.at("top_logprobs")[step];
      ASSERT_EQ(logprobs.top.size(), top.size());
      for (std::size_t k = 0; k < top.size(); ++k) {
        // Neighbours may swap where they are closer than the tolerance: values are compared.
        EXPECT_NEAR(logprobs.top[k].second, top[k][1].get<double>(), tolerance);
      }
    }
  }
}

void FixtureReference::expect_greedy_tokens(const std::vector<FinishedRequest>& finished) const {
  const auto& prompts = reference_.at("prompts");
  ASSERT_EQ(finished.size(), prompts.size());
  for (const FinishedRequest& request : finished) {
    const auto& prompt = prompts.at(static_cast<std::size_t>(request.index));
    for (const Completion& completion : request.completions) {
      ASSERT_EQ(completion.token_ids, prompt.at("token_ids").get<Tokens>()) << request.index;
    }
  }
}

std::vector<Request> FixtureReference::forced() const {
  std::vector<Request> requests;
  for (const auto& prompt : reference_.at("prompts")) {
    auto tokens = prompt.at("prompt_token_ids").get<Tokens>();
    for (const auto& next : prompt.at("token_ids")) {
      requests.push_back(request_for(tokens, requests.size(), 1, 20));
      tokens.push_back(next.get<std::int32_t>());
    }
  }
  return requests;
}

FixtureReference::Difference FixtureReference::compare_forced(
    const std::vector<FinishedRequest>& finished) const {
  const auto steps = reference_.at("steps").get<std::size_t>();
  Difference difference;
  for (const FinishedRequest& request : finished) {
    const auto number = static_cast<std::size_t>(request.index);
    const auto& recorded =
        reference_.at("prompts").at(number / steps).at("top_logprobs").at(number % steps);
    const auto& top = request.completions.at(0).logprobs.at(0).top;
    for (std::size_t k = 0; k < recorded.size(); ++k) {
      const auto token = recorded[k][0].get<std::int32_t>();
      const auto found = std::ranges::find(top, token, &std::pair<std::int32_t, float>::first);
      if (found == top.end()) {
        difference.missing += k == 0 ? 1 : 0;
        continue;
      }
      const double error = std::abs(found->second - recorded[k][1].get<double>());
      difference.mean += error;
      difference.largest = std::max(difference.largest, error);
      ++difference.compared;
    }
  }
  difference.mean /= static_cast<double>(std::max<std::int64_t>(difference.compared, 1));
  return difference;
}

}  // namespace millrace::test
