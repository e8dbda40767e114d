// A plan's bytes are the bytes that loading and running take, and its tokens follow from them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/engine/transformer.hpp"
#include "core/model/model_folder.hpp"
#include "core/plan/grid_plan.hpp"
#include "core/plan/human_bytes.hpp"
#include "core/plan/plan_options.hpp"
#include "core/weights/checkpoint.hpp"

namespace millrace {
namespace {

ModelDescription fixture(const std::string& name) {
  return describe_model(find_model(std::string(MILLRACE_TEST_DATA) + "/models/" + name));
}

PlanOptions options_with(std::int64_t memory_bytes) {
  PlanOptions options;
  options.max_model_len = 96;
  options.block_size = 8;
  options.max_num_seqs = 12;
  options.max_num_batched_tokens = 64;
  options.memory_bytes = memory_bytes;
  return options;
}

class EveryModel : public ::testing::TestWithParam<const char*> {};

TEST_P(EveryModel, PlannedBytesAreTheBytesTaken) {
  const ModelDescription model = fixture(GetParam());
  const PlanOptions options = options_with(1 << 30);
  for (const GridShape& shape : {GridShape{1, 1, 1}, GridShape{1, 3, 2}, GridShape{1, 2, 4}}) {
    const GridPlan plan = plan_grid(model, shape, options);
    ASSERT_EQ(plan.problem, "");
    ASSERT_EQ(plan.ranks.size(), static_cast<std::size_t>(shape.ranks()));
    for (const RankPlan& rank : plan.ranks) {
      SCOPED_TRACE(testing::Message() << to_string(shape) << ", stage " << rank.at.pipeline
                                      << ", tensor " << rank.at.tensor);
      const RankSlices slices = partition(model.spec, shape, rank.at);
      const auto checkpoint = make_dummy_checkpoint(model, 0);
      const Stream stream{Device::cpu()};
      LoadOptions loading;
      loading.max_positions = options.max_model_len;
      const RankWeights weights = load_weights(model, *checkpoint, slices, loading, stream);
      EXPECT_EQ(rank.weight_bytes, weights.report.weight_bytes);
      const Transformer transformer(model.spec, slices, weights, Comm(),
                                    options.max_num_batched_tokens, options.max_num_seqs,
                                    DType::f32, Device::cpu());
      EXPECT_EQ(rank.activation_bytes, transformer.activation_bytes());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, EveryModel,
                         ::testing::Values("llama-tied-bias", "gpt2", "opt-post", "qwen3"),
                         [](const auto& of) {
                           std::string name = of.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(GridPlan, TokensAreTheSmallestRanksWholeBlocks) {
  // 3 KV heads of 7 on 2 tensor ranks: 2 and 1; 5 layers. A block of 8 tokens in f32.
  const ModelDescription model = fixture("llama-tied-bias");
  PlanOptions options = options_with(1 << 30);
  const auto& attention = model.spec.layers.front().attention;
  const std::int64_t head_block_bytes = 5 * 2 * 8 * attention.head_dim * 4;
  options.cache_bytes = 25 * head_block_bytes + 1;
  const GridPlan plan = plan_grid(model, {1, 1, 2}, options);
  ASSERT_EQ(plan.problem, "");
  EXPECT_EQ(plan.ranks[0].block_bytes, 2 * head_block_bytes);
  EXPECT_EQ(plan.ranks[1].block_bytes, head_block_bytes);
  EXPECT_EQ(plan.ranks[0].blocks, 12);
  EXPECT_EQ(plan.ranks[1].blocks, 25);
  EXPECT_EQ(plan.limiting, 0U);
  EXPECT_EQ(plan.replica.tokens, 96);
  EXPECT_DOUBLE_EQ(plan.replica.concurrency, 1.0);
}

TEST(GridPlan, ACacheForLessThanOneRequestIsAProblemThatNamesTheLength) {
  PlanOptions options = options_with(1 << 30);
  options.cache_bytes = 1000;
  const GridPlan plan = plan_grid(fixture("llama-tied-bias"), {1, 1, 1}, options);
  EXPECT_FALSE(plan.works());
  EXPECT_THAT(plan.problem, ::testing::HasSubstr("--max-model-len 96"));
}

TEST(GridPlan, WeightsThatDoNotFitAreAProblemThatNamesTheSizes) {
  const GridPlan plan = plan_grid(fixture("llama-tied-bias"), {1, 1, 1}, options_with(1 << 20));
  EXPECT_FALSE(plan.works());
  EXPECT_THAT(plan.problem, ::testing::HasSubstr("of weights"));
  EXPECT_THAT(plan.problem, ::testing::HasSubstr("a rank may use 1.00 MiB"));
}

TEST(GridPlan, WhereSmallerStepsWouldHelpTheProblemSaysSo) {
  const ModelDescription model = fixture("llama-tied-bias");
  const RankPlan fits = plan_grid(model, {}, options_with(1 << 30)).ranks[0];
  const std::int64_t of_request = 96 / 8 * fits.block_bytes;
  const std::string remedy =
      "; less than --max-num-batched-tokens 64 or --max-num-seqs 12 would leave more";
  for (const std::int64_t memory : {fits.fixed_bytes() - 1, fits.fixed_bytes() + of_request - 1}) {
    EXPECT_THAT(plan_grid(model, {}, options_with(memory)).problem, ::testing::EndsWith(remedy));
  }
  EXPECT_THAT(plan_grid(model, {}, options_with(fits.weight_bytes - 1)).problem,
              ::testing::Not(::testing::HasSubstr(remedy)));
}

TEST(PlanOptions, StepsAreAsLargeAsTheDeviceIsGoodFor) {
  const ModelDescription model = fixture("llama-tied-bias");
  const auto limits = [&](DeviceKind device, EngineConfig engine) {
    engine.block_size = 16;
    const PlanOptions options = make_plan_options(model.spec, {}, engine, device, 1 << 30);
    return std::pair(options.max_num_seqs, options.max_num_batched_tokens);
  };
  EXPECT_EQ(limits(DeviceKind::cpu, {}), std::pair(256, 2048));
  EXPECT_EQ(limits(DeviceKind::cuda, {}), std::pair(1024, 8192));
  EngineConfig engine;
  engine.max_num_batched_tokens = 100;  // a token for each sequence
  EXPECT_EQ(limits(DeviceKind::cuda, engine), std::pair(100, 100));
  engine.max_num_seqs = 7;
  EXPECT_EQ(limits(DeviceKind::cuda, engine), std::pair(7, 100));
  engine.max_num_batched_tokens.reset();
  EXPECT_EQ(limits(DeviceKind::cuda, engine), std::pair(7, 8192));
  engine.max_num_seqs = 10'000;
  EXPECT_EQ(limits(DeviceKind::cpu, engine), std::pair(10'000, 10'000));
}

TEST(GridPlan, AGridThatTheModelCannotTakeIsAProblem) {
  const GridPlan plan = plan_grid(fixture("llama-tied-bias"), {1, 9, 1}, options_with(1 << 30));
  EXPECT_FALSE(plan.works());
  EXPECT_TRUE(plan.ranks.empty());
}

TEST(GridPlan, OnCpusTheCacheIsNoLargerThanTheSequencesCanUse) {
  PlanOptions options = options_with(1 << 30);
  const ModelDescription model = fixture("llama-tied-bias");
  EXPECT_EQ(plan_grid(model, {1, 1, 1}, options).replica.blocks, 12 * 12);
  options.limit_to_use = false;
  EXPECT_GT(plan_grid(model, {1, 1, 1}, options).replica.blocks, 12 * 12);
}

TEST(HumanBytes, ReadsAsPeopleWriteIt) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.00 KiB");
  EXPECT_EQ(human_bytes(98362432), "93.8 MiB");
  EXPECT_EQ(human_bytes((std::int64_t{1} << 30) - 1), "1.00 GiB");
  EXPECT_EQ(human_bytes(std::int64_t{80} << 30), "80.0 GiB");
}

}  // namespace
}  // namespace millrace
