// A fixture model (test/data/models) and what transformers recorded for it: prompts, greedy tokens
// and their log-probabilities.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "comm/grid.hpp"
#include "test/core/engine/run_engine.hpp"

namespace millrace::test {

// All of them but those in fp8, which have tolerances of their own.
inline constexpr const char* fixture_models[] = {
    "gpt2",           "llama-bf16-sharded", "llama-dynamic",   "llama-f16",
    "llama-gguf",     "llama-linear",       "llama-tied-bias", "llama-yarn",
    "mistral-window", "opt-post",           "opt-pre",         "qwen2",
    "qwen3"};

// "llama-f16" -> "llama_f16", as names of tests must be.
std::string test_name(std::string model);

class FixtureReference {
 public:
  explicit FixtureReference(const std::string& model);

  const std::filesystem::path& folder() const { return folder_; }

  // Every grid of so many ranks that can hold the model.
  std::vector<GridShape> grids(int ranks) const;

  // Every prompt, greedy, as many tokens as were recorded, top 5 log-probabilities.
  std::vector<Request> greedy() const;
  // The leaders hold these results: expects the recorded tokens, and log-probabilities within
  // `tolerance`.
  void expect_greedy(const std::vector<FinishedRequest>& finished, double tolerance) const;
  // Expects the recorded tokens of every completion.
  void expect_greedy_tokens(const std::vector<FinishedRequest>& finished) const;

  // Every prompt with every recorded beginning of its continuation, one token each, so that a token
  // that is drawn differently does not change what comes later.
  std::vector<Request> forced() const;
  // The recorded most likely tokens' log-probabilities against those that came out.
  struct Difference {
    double mean = 0;
    double largest = 0;
    std::int64_t compared = 0;
    std::int64_t missing = 0;  // recorded as the most likely, and not among those that came out
  };
  Difference compare_forced(const std::vector<FinishedRequest>& finished) const;

 private:
  std::filesystem::path folder_;
  nlohmann::json reference_;
};

}  // namespace millrace::test
