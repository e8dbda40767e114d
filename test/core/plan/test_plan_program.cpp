// What millrace-plan prints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/model/model_folder.hpp"
#include "core/plan/plan_program.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using ::testing::HasSubstr;

PlanConfig config_of(const std::vector<std::string>& arguments) {
  PlanConfig config;
  const std::vector<Flag> flags = plan_flags(config);
  apply_settings(flags, read_settings(flags, arguments, {}).values);
  return config;
}

struct Text {
  std::string table;
  std::string recommendation;
};

Text text_of(std::vector<std::string> arguments) {
  const std::string folder = std::string(MILLRACE_TEST_DATA) + "/models/llama-tied-bias";
  arguments.insert(arguments.end(), {"--model", folder});
  const PlanConfig config = config_of(arguments);
  const ModelDescription model = model_to_plan(config);
  const ClusterPlan plan = plan_cluster(model, config);
  return {table_text(model, plan), recommendation_text(model, config, plan)};
}

TEST(PlanProgram, PrintsALinePerGridAndTheRecommendedOne) {
  const Text text = text_of({"--gpu-memory", "8GiB", "--gpus-per-node", "2", "--nodes", "2"});
  EXPECT_THAT(text.table, HasSubstr("4 GPUs on 2 nodes; a rank may use 7.36 GiB"));
  EXPECT_THAT(text.table, HasSubstr("\n    4         1       1 "));
  EXPECT_THAT(text.table, HasSubstr("\n    1         2       2 "));
  EXPECT_THAT(
      text.recommendation,
      HasSubstr("--data-parallel-size 4 --pipeline-parallel-size 1 --tensor-parallel-size 1"));
}

TEST(PlanProgram, SaysWhyAGridCannotRun) {
  const Text text = text_of({"--gpu-memory", "8GiB", "--gpus-per-node", "8"});
  EXPECT_THAT(text.table, ::testing::ContainsRegex("1 +8 +1 .*8.*5"));  // 8 stages, 5 layers
}

TEST(PlanProgram, CpuHostsShareTheirMemoryAmongTheirRanks) {
  const Text text = text_of({"--device", "cpu", "--gpu-memory", "1GiB", "--gpus-per-node", "4"});
  EXPECT_THAT(text.table, HasSubstr("4 CPU ranks on 1 node; a rank may use 204.8 MiB"));
}

TEST(PlanProgram, NamesWhatLimitsTheCache) {
  EXPECT_THAT(text_of({"--gpu-memory", "8GiB"}).table, HasSubstr("memory of every rank"));
  EXPECT_THAT(text_of({"--gpu-memory", "8GiB", "--kv-cache-memory-bytes", "9MiB"}).table,
              HasSubstr("--kv-cache-memory-bytes"));
  EXPECT_THAT(text_of({"--gpu-memory", "1GiB", "--device", "cpu", "--max-num-seqs", "3"}).table,
              HasSubstr("--max-num-seqs 3"));
}

TEST(PlanProgram, WeightsInFp8TakeLess) {
  const auto weights = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "--gpu-memory", "8GiB",    "--dtype",
        "bfloat16",     "--model", MILLRACE_TEST_DATA "/models/llama-tied-bias"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const PlanConfig config = config_of(arguments);
    return plan_cluster(model_to_plan(config), config).grids.front().ranks.front().weight_bytes;
  };
  EXPECT_LT(weights({"--quantization", "fp8"}), weights({}));
  EXPECT_THAT(text_of({"--gpu-memory", "8GiB", "--quantization", "fp8"}).table,
              HasSubstr("weights in fp8 and "));
}

TEST(PlanProgram, OneGpuIsNotGpus) {
  EXPECT_THAT(text_of({"--gpu-memory", "8GiB"}).table, HasSubstr("\n1 GPU on 1 node; a rank"));
}

TEST(PlanProgram, RefusesWhatNobodyMeans) {
  const auto error_of = [](const std::vector<std::string>& arguments) -> std::string {
    try {
      text_of(arguments);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(error_of({"--gpu-memory", "80"}),
            "--gpu-memory: '80' is not a memory such as 80GiB: a number alone is bytes");
  EXPECT_EQ(error_of({"--gpu-memory", "8GiB", "--nodes", "65536", "--gpus-per-node", "65536"}),
            "--nodes 65536 with --gpus-per-node 65536 is more than 131,072 ranks");
}

}  // namespace
}  // namespace millrace
