// The program runs a tiny model on the CPU, on one rank and on two, and writes what it says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "test/end_to_end/program.hpp"

namespace millrace::test {
namespace {

using ::testing::HasSubstr;

Launch bench(int ranks, std::vector<std::string> more) {
  Launch launch{.ranks = ranks,
                .program = "bench/throughput/bench_throughput",
                .arguments = {"--device=cpu", "--model", fixture("llama-tied-bias"),
                              "--max-num-seqs=4", "--max-num-batched-tokens=16"}};
  launch.arguments.insert(launch.arguments.end(), more.begin(), more.end());
  return launch;
}

TEST(BenchThroughput, WritesALinePerWorkload) {
  const Workspace work;
  for (const int ranks : {0, 2}) {
    const Outcome outcome =
        run(bench(ranks, {"--workload=9/5x7", "--workload=lognormal:6/4x5", "--decode-batches=2",
                          "--context=100", "--csv", work / "run.csv"}));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    EXPECT_THAT(outcome.output, HasSubstr("9/5x7: "));
    EXPECT_THAT(outcome.output, HasSubstr("decode, batch 2, context 100: "));
  }
  const std::string csv = read_file(work / "run.csv");
  EXPECT_EQ(std::ranges::count(csv, '\n'), 1 + 2 * 2) << csv;
  EXPECT_THAT(csv, HasSubstr(",9/5x7,4,16,"));
}

TEST(BenchThroughput, SaysOfAnFp8CheckpointWhatItIs) {
  const Workspace work;
  const Outcome outcome =
      run({.program = "bench/throughput/bench_throughput",
           .arguments = {"--device=cpu", "--model", fixture("llama-fp8-channel"),
                         "--workload=9/5x2", "--csv", work / "run.csv"}});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, HasSubstr("weights fp8, KV cache float32"));
  EXPECT_THAT(read_file(work / "run.csv"), HasSubstr("llama-fp8-channel,fp8,float32,"));
}

TEST(BenchThroughput, EndsAWorkloadAtItsTimeLimit) {
  const Workspace work;
  const Outcome outcome = run(bench(
      2, {"--workload=20/80x1000000", "--workload=9/5x7", "--time-limit=1", "--csv", work / "c"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, HasSubstr("; ENDED BY THE TIME LIMIT after "));
  EXPECT_THAT(outcome.output, HasSubstr("9/5x7: "));
  const std::string csv = read_file(work / "c");
  EXPECT_EQ(std::ranges::count(csv, '\n'), 2) << csv;  // the one that came to its end
}

TEST(BenchThroughput, RefusesAWorkloadThatItCannotRead) {
  const Outcome outcome = run(bench(0, {"--workload=9-5x7"}));
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.errors, HasSubstr("workload '9-5x7' is not"));
}

}  // namespace
}  // namespace millrace::test
