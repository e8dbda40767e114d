// Greedy tokens and logprobs of every fixture model equal what transformers recorded, on every kind
// of grid.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "test/end_to_end/program.hpp"

namespace millrace::test {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

struct Grid {
  int tensor = 1;
  int pipeline = 1;
  int data = 1;
  int ranks() const { return tensor * pipeline * data; }
};

std::vector<std::string> fixture_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(fixture(""))) {
    names.push_back(entry.path().filename());
  }
  std::ranges::sort(names);
  return names;
}

// Runs the fixture's prompts greedily and answers the result's lines.
std::vector<json> results_of(const std::string& name, const json& reference, const Grid& grid) {
  const Workspace work;
  std::string prompts;
  for (const json& prompt : reference["prompts"]) {
    prompts += json{{"prompt", prompt["prompt_token_ids"]}}.dump() + "\n";
  }
  const Outcome outcome = run({.ranks = grid.ranks() == 1 ? 0 : grid.ranks(),
                               .arguments = {"--model",
                                             fixture(name),
                                             "--prompts",
                                             work.write("p.jsonl", prompts),
                                             "--output",
                                             work / "o.jsonl",
                                             "--temperature",
                                             "0",
                                             "--max-tokens",
                                             std::to_string(reference["steps"].get<int>()),
                                             "--ignore-eos",
                                             "--logprobs",
                                             "0",
                                             "-tp",
                                             std::to_string(grid.tensor),
                                             "-pp",
                                             std::to_string(grid.pipeline),
                                             "-dp",
                                             std::to_string(grid.data),
                                             "--dtype",
                                             "float32",
                                             "--block-size",
                                             "8"},
                               .timeout_seconds = 120});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  std::vector<json> lines;
  if (outcome.exit_code == 0) {
    std::istringstream text(read_file(work / "o.jsonl"));
    for (std::string line; std::getline(text, line);) {
      lines.push_back(json::parse(line));
    }
  }
  return lines;
}

class Fixture : public ::testing::TestWithParam<std::string> {
 protected:
  void expect_reference(const Grid& grid) {
    SCOPED_TRACE(testing::Message()
                 << "tp " << grid.tensor << " pp " << grid.pipeline << " dp " << grid.data);
    const json reference = json::parse(read_file(fixture(GetParam()) / "reference.json"));
    const std::vector<json> lines = results_of(GetParam(), reference, grid);
    // Tensor ranks quantize each their own part of a row, with a scale of its own.
    const double tolerance = reference.contains("logprob_tolerance")
                                 ? reference["logprob_tolerance"].get<double>() * grid.tensor
                                 : 1e-4;
    ASSERT_EQ(lines.size(), reference["prompts"].size());
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const json& wanted = reference["prompts"][i];
      EXPECT_EQ(lines[i]["token_ids"], wanted["token_ids"]) << "prompt " << i;
      EXPECT_EQ(lines[i]["index"], i);
      const json& logprobs = lines[i]["logprobs"];
      ASSERT_EQ(logprobs.size(), wanted["logprobs"].size());
      for (std::size_t step = 0; step < logprobs.size(); ++step) {
        ASSERT_NEAR(logprobs[step]["logprob"].get<double>(), wanted["logprobs"][step].get<double>(),
                    tolerance)
            << "prompt " << i << ", step " << step;
      }
    }
  }
};

TEST_P(Fixture, OneRankGivesTheReferencesTokensAndLogprobs) { expect_reference({}); }

TEST_P(Fixture, EightRanksOnAllThreeAxesGiveTheSameTokens) {
  expect_reference({.tensor = 2, .pipeline = 2, .data = 2});
}

INSTANTIATE_TEST_SUITE_P(All, Fixture, ::testing::ValuesIn(fixture_names()), [](const auto& of) {
  std::string name = of.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

}  // namespace
}  // namespace millrace::test
