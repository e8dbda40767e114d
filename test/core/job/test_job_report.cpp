// What a job records of itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/job/job_report.hpp"

namespace millrace {
namespace {

using ::testing::Contains;
using ::testing::Pair;

using Settings = std::vector<std::pair<std::string, std::string>>;

TEST(EffectiveSettings, RecordWhatWasChosenForWhatWasLeftOpen) {
  const RunConfig config = parse_run_config(std::vector<std::string>{
      "--model=m", "--prompts=p.txt", "--output=o.h5", "--stop=a", "--stop=b", "--top-p=0.5"});
  JobPlan plan;
  plan.grid.shape = {2, 1, 4};
  plan.options.dtype = DType::bf16;
  plan.options.max_model_len = 77;
  plan.options.max_num_seqs = 1024;
  plan.options.max_num_batched_tokens = 8192;
  plan.sampling.temperature = 0.25F;
  plan.sampling.top_p = 0.5F;
  const Settings settings = effective_settings(config, plan);
  EXPECT_THAT(settings, Contains(Pair("model", "m")));
  EXPECT_THAT(settings, Contains(Pair("stop", "a\nb")));
  EXPECT_THAT(settings, Contains(Pair("dtype", "bfloat16")));
  EXPECT_THAT(settings, Contains(Pair("kv-cache-dtype", "float32")));
  EXPECT_THAT(settings, Contains(Pair("max-model-len", "77")));
  EXPECT_THAT(settings, Contains(Pair("max-num-seqs", "1024")));
  EXPECT_THAT(settings, Contains(Pair("max-num-batched-tokens", "8192")));
  EXPECT_THAT(settings, Contains(Pair("tensor-parallel-size", "4")));
  EXPECT_THAT(settings, Contains(Pair("data-parallel-size", "2")));
  EXPECT_THAT(settings, Contains(Pair("temperature", "0.25")));
  EXPECT_THAT(settings, Contains(Pair("top-p", "0.5")));
}

TEST(SummaryLines, StateCountsAndRates) {
  Report report;
  report.summary = {.load_seconds = 1,
                    .run_seconds = 4,
                    .prompt_tokens = 1000,
                    .output_tokens = 2000,
                    .requests = 20,
                    .errors = 1};
  EXPECT_THAT(
      summary_lines(report, 1.5),
      ::testing::ElementsAre(
          "20 requests (1 failed), 1,000 prompt tokens, 2,000 output tokens in 4.00 s",
          "throughput: 500.0 output tokens/s, 750.0 tokens/s with prompts; first token 1.50 s "
          "after start"));
  EXPECT_EQ(summary_lines(report, 0)[1],
            "throughput: 500.0 output tokens/s, 750.0 tokens/s with prompts");
}

}  // namespace
}  // namespace millrace
