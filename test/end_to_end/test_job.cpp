// What a job does beside its tokens: outputs, environment, help, the report, the plan's
// predictions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "test/end_to_end/program.hpp"

namespace millrace::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using Strings = std::vector<std::string>;
namespace fs = std::filesystem;

class Job : public ::testing::Test {
 protected:
  Outcome run_with(const Strings& more, int ranks = 0, const Strings& environment = {}) const {
    Strings arguments = {
        "--model", fixture("llama-tied-bias"), "--prompts", prompts_, "--max-tokens", "4"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run({.ranks = ranks, .arguments = arguments, .environment = environment});
  }

  const Workspace work_;
  const std::string prompts_ = work_.write(
      "p.jsonl", "{\"prompt\": \"one\"}\n{\"prompt\": \"two\"}\n{\"prompt\": [5, 6]}\n");
};

TEST_F(Job, SameSeedGivesTheSameFileOnEveryGrid) {
  std::string first;
  for (const Strings& grid :
       {Strings{}, Strings{"-tp", "2"}, Strings{"-pp", "2"}, Strings{"-dp", "2"}}) {
    const std::string output = work_ / "o.jsonl";
    Strings arguments = {"--output", output, "--overwrite", "--temperature", "1",  "--top-p",
                         "0.9",      "--n",  "2",           "--seed",        "11", "--logprobs",
                         "2"};
    arguments.insert(arguments.end(), grid.begin(), grid.end());
    const Outcome outcome = run_with(arguments, grid.empty() ? 0 : 2);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    // Logprobs may differ in the last digits: their sums run over other cuts.
    std::istringstream lines(read_file(output));
    std::string tokens;
    for (std::string line; std::getline(lines, line);) {
      const json result = json::parse(line);
      for (const json& completion : result["outputs"]) {
        tokens += completion["token_ids"].dump() + completion["text"].dump();
      }
    }
    if (first.empty()) first = tokens;
    EXPECT_EQ(tokens, first);
  }
  EXPECT_FALSE(first.empty());
}

TEST_F(Job, TheEnvironmentOfRankZeroCountsOnEveryRank) {
  const Outcome outcome = run_with({"--output", work_ / "o.jsonl"}, 2,
                                   {"MILLRACE_TENSOR_PARALLEL_SIZE=2", "MILLRACE_MAX_NUM_SEQ=3"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.errors, HasSubstr("data 1 x pipeline 1 x tensor 2: "));
  EXPECT_THAT(outcome.errors, HasSubstr("MILLRACE_MAX_NUM_SEQ is set but names no flag"));
}

TEST_F(Job, TasksOfSrunThatDoNotFindEachOtherAreRefused) {
  const Strings arguments = {"--output", work_ / "o.jsonl"};
  const Outcome alone = run_with(arguments, 0, {"SLURM_STEP_NUM_TASKS=2"});
  EXPECT_EQ(alone.exit_code, 2);
  EXPECT_THAT(alone.errors, HasSubstr("srun started 2 tasks"));
  // mpirun's ranks have the variables of the daemons that srun started for it.
  EXPECT_EQ(run_with(arguments, 1, {"SLURM_STEP_NUM_TASKS=2"}).exit_code, 0);
}

TEST_F(Job, LogsTheTwoCacheLinesAndTheSummary) {
  const Outcome outcome = run_with(
      {"--output", work_ / "o.h5", "--kv-cache-memory-bytes", "1MiB", "--max-model-len", "64"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.errors, HasSubstr("CPU KV cache size: "));
  EXPECT_THAT(outcome.errors, HasSubstr("Maximum concurrency for 64 tokens per request: "));
  EXPECT_THAT(outcome.errors, HasSubstr("3 requests (0 failed)"));
  EXPECT_THAT(outcome.errors, HasSubstr("12 output tokens"));
  EXPECT_TRUE(fs::exists(work_ / "o.h5"));
  EXPECT_FALSE(fs::exists(work_ / "o.h5.spool"));
}

TEST_F(Job, AQuietLogHasNoProgressEither) {
  const Outcome outcome = run_with({"--output", work_ / "o.h5", "--log-level", "warning"});
  ASSERT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.errors, "");
}

TEST_F(Job, JsonLinesComeWithTheirReportBesideThem) {
  const Outcome outcome = run_with({"--output", work_ / "o.jsonl", "--return-prompt-token-ids"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_TRUE(fs::exists(work_ / "o.jsonl.report.h5"));
  std::istringstream lines(read_file(work_ / "o.jsonl"));
  std::string line;
  std::getline(lines, line);
  std::getline(lines, line);
  std::getline(lines, line);
  EXPECT_EQ(json::parse(line)["prompt_token_ids"], json({5, 6}));
}

TEST_F(Job, AnEmptyPromptFileGivesAnEmptyResult) {
  const std::string empty = work_.write("empty.txt", "");
  const Outcome outcome = run({.ranks = 2,
                               .arguments = {"--model", fixture("llama-tied-bias"), "--prompts",
                                             empty, "--output", work_ / "o.jsonl"}});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_EQ(read_file(work_ / "o.jsonl"), "");
}

TEST_F(Job, HelpAndVersionArePrintedOnceAndNeedNoModel) {
  const Outcome help = run({.ranks = 2, .arguments = {"--help"}});
  EXPECT_EQ(help.exit_code, 0) << help.errors;
  const std::size_t first = help.output.find("--tensor-parallel-size, -tp");
  ASSERT_NE(first, std::string::npos);
  EXPECT_EQ(help.output.find("--tensor-parallel-size, -tp", first + 1), std::string::npos);
  const Outcome version = run({.arguments = {"--version"}});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_THAT(version.output, ::testing::MatchesRegex("millrace [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

// The number that follows `words` in a log, commas left out.
std::string number_after(const std::string& text, const std::string& words) {
  const std::size_t begin = text.find(words);
  std::string number;
  for (std::size_t i = begin + words.size(); begin != std::string::npos && i < text.size(); ++i) {
    if (text[i] == ',') continue;
    if (std::isdigit(static_cast<unsigned char>(text[i])) == 0 && text[i] != '.') break;
    number += text[i];
  }
  return number;
}

// A plan's row for a grid, as words.
Strings row_of(const std::string& plan, int data, int pipeline, int tensor) {
  std::istringstream lines(plan);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream text(line);
    Strings words{std::istream_iterator<std::string>(text), {}};
    if (words.size() > 9 && words[0] == std::to_string(data) &&
        words[1] == std::to_string(pipeline) && words[2] == std::to_string(tensor)) {
      return words;
    }
  }
  return {};
}

TEST_F(Job, APlanPredictsWhatTheRunReports) {
  const Strings sizes = {
      "--kv-cache-memory-bytes", "3MB",  "--max-model-len",          "96",  "--block-size", "8",
      "--max-num-seqs",          "5000", "--max-num-batched-tokens", "5000"};
  Strings plan_arguments = {
      "--model", fixture("llama-tied-bias"), "--device", "cpu", "--gpu-memory",
      "8GiB",    "--gpus-per-node",          "4"};
  plan_arguments.insert(plan_arguments.end(), sizes.begin(), sizes.end());
  const Outcome plan = run({.program = "millrace-plan", .arguments = plan_arguments});
  ASSERT_EQ(plan.exit_code, 0) << plan.errors;
  EXPECT_THAT(plan.output, HasSubstr("Recommended: --data-parallel-size 4 "));

  for (const auto& [pipeline, tensor] : {std::pair{1, 4}, {2, 2}, {4, 1}}) {
    SCOPED_TRACE(testing::Message() << "pp " << pipeline << " tp " << tensor);
    Strings arguments = {
        "--output", work_ / "o.h5",          "--overwrite", "-tp", std::to_string(tensor),
        "-pp",      std::to_string(pipeline)};
    arguments.insert(arguments.end(), sizes.begin(), sizes.end());
    const Outcome job = run_with(arguments, 4);
    ASSERT_EQ(job.exit_code, 0) << job.errors;
    const Strings row = row_of(plan.output, 1, pipeline, tensor);
    ASSERT_FALSE(row.empty()) << plan.output;
    std::string tokens = row[7];
    std::erase(tokens, ',');
    EXPECT_EQ(tokens, number_after(job.errors, "KV cache size: ")) << plan.output;
    EXPECT_EQ(row[8], number_after(job.errors, "tokens per request: ") + "x") << plan.output;
  }
}

}  // namespace
}  // namespace millrace::test
