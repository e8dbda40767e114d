// Parts of a prompt file answered by jobs of their own and merged; and what is recovered of a job
// that died.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/end_to_end/interrupted_job.hpp"

namespace millrace::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

Outcome report(const Strings& arguments) {
  return run({.program = "millrace-report", .arguments = arguments});
}

class Shards : public ::testing::Test {
 protected:
  // Answers shard `index` of 3, each on a grid of its own, into PREFIX-index.ENDING.
  std::string answer(int index, const std::string& ending, const Strings& more = {}) {
    const std::string name = "shard-" + std::to_string(index) + ending;
    Strings flags = {"--shard=" + std::to_string(index) + "/3"};
    flags.insert(flags.end(), more.begin(), more.end());
    const std::vector<Strings> grids = {
        {}, {"--data-parallel-size=2"}, {"--pipeline-parallel-size=2"}};
    const Strings& grid = grids[static_cast<std::size_t>(index)];
    flags.insert(flags.end(), grid.begin(), grid.end());
    const Outcome outcome = job_.run_to(name, flags, grid.empty() ? 0 : 2);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
    return job_ / name;
  }

  SmallJob job_;
};

TEST_F(Shards, MergedAreTheBytesOfOneRun) {
  const std::string first = answer(0, ".jsonl");
  const std::string second = answer(1, ".jsonl");
  const std::string third = answer(2, ".jsonl");
  EXPECT_EQ(json_lines(second)[0]["index"], json_lines(first).size()) << "lines of the whole file";
  const Outcome merged = report({"--merge", job_ / "all.jsonl", third, first, second});
  ASSERT_EQ(merged.exit_code, 0) << merged.errors;
  EXPECT_THAT(merged.output, HasSubstr("3,000 lines of 3 results"));
  EXPECT_TRUE(read_file(job_ / "all.jsonl") == job_.undisturbed());
  EXPECT_THAT(
      report({job_ / "all.jsonl"}).output,
      AllOf(HasSubstr("requests      3,000, 0 with an error"), HasSubstr("runs          3: ")));
  // What was merged is the whole job's result.
  const Outcome done = job_.run_to("all.jsonl", {"--resume"});
  EXPECT_THAT(done.errors, HasSubstr("nothing is left to do")) << done.errors;

  const Outcome again = report({"--merge", job_ / "all.jsonl", first, second, third});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.complaints(), testing::ElementsAre(HasSubstr("--overwrite")));

  const Outcome gap = report({"--merge", job_ / "x.jsonl", third, first});
  EXPECT_EQ(gap.exit_code, 2);
  EXPECT_THAT(gap.complaints(), testing::ElementsAre(HasSubstr("are in none of them")));
  const Outcome overlap = report({"--merge", job_ / "x.jsonl", first, first, second, third});
  EXPECT_EQ(overlap.exit_code, 2);
  EXPECT_THAT(overlap.complaints(),
              testing::ElementsAre(AllOf(HasSubstr("bytes 0 to "), HasSubstr("are in both"))));
  const std::string foreign = answer(1, ".jsonl", {"--overwrite", "--seed=9"});
  const Outcome other = report({"--merge", job_ / "x.jsonl", first, foreign, third});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.complaints(), testing::ElementsAre(HasSubstr("--seed was 0, is 9")));
  EXPECT_FALSE(fs::exists(job_ / "x.jsonl"));
  EXPECT_FALSE(fs::exists(job_ / "x.jsonl.partial"));
}

TEST_F(Shards, WhatIsMadeOfThemHasTheirPermissions) {
  const auto mode_of = [](const fs::path& file) {
    return static_cast<int>(fs::status(file).permissions());
  };
  for (const std::string ending : {".jsonl", ".h5"}) {
    Strings merge = {"--merge", job_ / ("all" + ending)};
    for (const int shard : {0, 1, 2}) merge.push_back(answer(shard, ending, {"--output-mode=640"}));
    EXPECT_EQ(mode_of(merge.back()), 0640);
    ASSERT_EQ(report(merge).exit_code, 0);
    EXPECT_EQ(mode_of(job_ / ("all" + ending)), 0640);
  }
  EXPECT_EQ(mode_of(job_ / "all.jsonl.report.h5"), 0640);
  ASSERT_EQ(report({job_ / "all.h5", "--to-jsonl", job_ / "lines.jsonl"}).exit_code, 0);
  EXPECT_EQ(mode_of(job_ / "lines.jsonl"), 0640);
}

TEST_F(Shards, OfHdf5AreMergedToo) {
  const Strings inputs = {answer(0, ".h5"), answer(1, ".h5"), answer(2, ".h5")};
  const Outcome merged =
      report({"--merge", job_ / "all.h5", inputs[0], inputs[1], inputs[2], "--overwrite"});
  ASSERT_EQ(merged.exit_code, 0) << merged.errors;
  const Outcome converted = report({job_ / "all.h5", "--to-jsonl", job_ / "all.jsonl"});
  ASSERT_EQ(converted.exit_code, 0) << converted.errors;
  EXPECT_TRUE(read_file(job_ / "all.jsonl") == job_.undisturbed());
}

TEST_F(Shards, MoreOfThemThanLinesAreEmpty) {
  job_.workspace().write("two.txt", "one\ntwo");
  Strings inputs = {"--merge", job_ / "all.jsonl"};
  for (int index = 0; index < 5; ++index) {
    const std::string name = "tiny-" + std::to_string(index) + ".jsonl";
    const Outcome outcome = job_.run_to(
        name, {"--prompts=" + (job_ / "two.txt"), "--shard=" + std::to_string(index) + "/5"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    inputs.push_back(job_ / name);
  }
  const Outcome merged = report(inputs);
  ASSERT_EQ(merged.exit_code, 0) << merged.errors;
  EXPECT_EQ(json_lines(job_ / "all.jsonl").size(), 2U);
}

TEST_F(Shards, OneOfThemIsResumedLikeAnyJob) {
  job_.interrupt("s.jsonl", {"--shard=1/2"}, 50'000);
  const Outcome outcome = job_.run_to("s.jsonl", {"--shard=1/2", "--resume"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const Outcome other = job_.run_to("t.jsonl", {"--shard=0/2"});
  ASSERT_EQ(other.exit_code, 0) << other.errors;
  ASSERT_EQ(report({"--merge", job_ / "all.jsonl", job_ / "s.jsonl", job_ / "t.jsonl"}).exit_code,
            0);
  EXPECT_TRUE(read_file(job_ / "all.jsonl") == job_.undisturbed());
}

TEST_F(Shards, RecoverKeepsEveryLineInItsPlaceAndTheJobCanGoOn) {
  job_.interrupt("o.jsonl");
  const Outcome recovered = report({"--recover", job_ / "o.jsonl"});
  ASSERT_EQ(recovered.exit_code, 0) << recovered.errors;
  const std::vector<json> lines = json_lines(job_ / "o.recovered.jsonl");
  job_.undisturbed();
  const std::vector<json> wanted = json_lines(job_ / "undisturbed.jsonl");
  ASSERT_EQ(lines.size(), wanted.size());
  int answered = 0;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i]["error"].is_null()) {
      ASSERT_EQ(lines[i], wanted[i]);
      ++answered;
    } else {
      ASSERT_EQ(lines[i]["error"], "not answered when the job ended");
      ASSERT_EQ(lines[i]["index"], i);
      ASSERT_TRUE(lines[i]["token_ids"].is_null());
    }
  }
  EXPECT_GT(answered, 100);
  EXPECT_LT(answered, SmallJob::prompt_count);
  EXPECT_THAT(report({job_ / "o.recovered.jsonl"}).output, HasSubstr("prompts are not answered"));
  EXPECT_THAT(report({"--merge", job_ / "x.jsonl", job_ / "o.recovered.jsonl"}).errors,
              HasSubstr("is no whole result"));

  // As HDF5, of the same journal under the name that such a job has.
  fs::copy(job_.spool("o.jsonl"), job_.spool("o.h5"));
  ASSERT_EQ(report({"--recover", job_ / "o.h5"}).exit_code, 0);
  ASSERT_EQ(report({job_ / "o.recovered.h5", "--to-jsonl", job_ / "converted.jsonl"}).exit_code, 0);
  EXPECT_TRUE(read_file(job_ / "converted.jsonl") == read_file(job_ / "o.recovered.jsonl"));

  const Outcome outcome = job_.run_to("o.jsonl", {"--resume"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_TRUE(read_file(job_ / "o.jsonl") == job_.undisturbed());
}

TEST_F(Shards, RecoverSaysWhatItLacks) {
  EXPECT_THAT(report({"--recover", job_ / "o.jsonl"}).complaints(),
              testing::ElementsAre(HasSubstr("no journal")));
  job_.interrupt("o.jsonl");
  fs::rename(job_.prompts(), job_ / "moved.jsonl");
  EXPECT_THAT(report({"--recover", job_ / "o.jsonl"}).complaints(),
              testing::ElementsAre(AllOf(HasSubstr("p.jsonl"), HasSubstr("--prompts"))));
  job_.workspace().write("other.jsonl", "{}\n");
  EXPECT_THAT(
      report({"--recover", job_ / "o.jsonl", "--prompts", job_ / "other.jsonl"}).complaints(),
      testing::ElementsAre(HasSubstr("not the job's prompts")));
  EXPECT_EQ(report({"--recover", job_ / "o.jsonl", "--prompts", job_ / "moved.jsonl"}).exit_code,
            0);
}

}  // namespace
}  // namespace millrace::test
