// SmolLM2-135M and what transformers gives for the same dequantized weights
// (test/data/smollm2_reference.json): 20 prompts, 64 greedy tokens each. MILLRACE_SMOLLM2 names the
// GGUF file (check.sh sets it).
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "test/core/engine/run_engine.hpp"

namespace millrace::test {

class SmolLm2Reference {
 public:
  // False where the file is not named; then nothing below may be called.
  static bool is_there();

  SmolLm2Reference();

  // Runs all prompts, greedy, and expects the recorded tokens, and log-probabilities within
  // `tolerance`. Sizes are set here. Collective.
  void expect_greedy(const Comm& world, EngineOptions options, double tolerance) const;

  // The recorded tokens' log-probabilities against those that come out, each after the recorded
  // tokens before it.
  struct Difference {
    double mean = 0;
    double largest = 0;
    std::int64_t compared = 0;
    std::int64_t missing = 0;  // recorded, and not among the 20 likeliest that came out
  };
  Difference compare_forced(const Comm& world, EngineOptions options) const;

 private:
  std::filesystem::path path_;
  nlohmann::json prompts_;
  std::int32_t steps_ = 0;
};

}  // namespace millrace::test
