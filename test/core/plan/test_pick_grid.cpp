// The grid that is picked when the user leaves it open, by what the model needs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/model/model_folder.hpp"
#include "core/plan/pick_grid.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

ModelDescription tiny() {
  return describe_model(find_model(std::string(MILLRACE_TEST_DATA) + "/models/llama-tied-bias"));
}

PlanOptions options_for(double model_sizes) {
  PlanOptions options;
  options.max_model_len = 64;
  options.max_num_seqs = 8;
  options.max_num_batched_tokens = 8;
  const RankPlan whole = plan_grid(tiny(), {1, 1, 1}, options).ranks.front();
  options.memory_bytes = static_cast<std::int64_t>(
      model_sizes * static_cast<double>(whole.weight_bytes + whole.activation_bytes));
  return options;
}

GridShape picked(const ClusterShape& cluster, const GridConfig& given, double model_sizes) {
  return pick_grid(tiny(), cluster, given, options_for(model_sizes)).plan.shape;
}

TEST(PickGrid, AModelThatFitsWithRoomToSpareRunsDataParallel) {
  EXPECT_EQ(picked({4, 4, true}, {}, 3.0), (GridShape{4, 1, 1}));
}

TEST(PickGrid, AModelThatLeavesNoRoomForItsCacheIsCutFurther) {
  EXPECT_EQ(picked({4, 4, true}, {}, 1.1), (GridShape{2, 1, 2}));
}

TEST(PickGrid, WithoutFastLinksItIsCutIntoStages) {
  EXPECT_EQ(picked({4, 4, false}, {}, 1.1), (GridShape{2, 2, 1}));
}

TEST(PickGrid, WhatLeavesLittleRoomIsBetterThanNothing) {
  EXPECT_EQ(picked({1, 1, true}, {}, 1.15), (GridShape{1, 1, 1}));
}

TEST(PickGrid, WhatTheUserFixesStays) {
  GridConfig given;
  given.tensor_parallel_size = 2;
  EXPECT_EQ(picked({4, 4, true}, given, 3.0), (GridShape{2, 1, 2}));
  given.pipeline_partition = {3, 2};
  EXPECT_EQ(picked({4, 4, true}, given, 3.0), (GridShape{1, 2, 2}));
}

TEST(PickGrid, WhatFitsNowhereIsRefusedWithTheSizes) {
  try {
    picked({2, 2, true}, {}, 0.3);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("of weights"));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("data 1 x "));
  }
}

TEST(PickGrid, AWorldOfAnotherSizeIsRefusedWithTheSizes) {
  GridConfig given;
  given.tensor_parallel_size = 2;
  given.pipeline_parallel_size = 2;
  given.data_parallel_size = 2;
  EXPECT_THROW(picked({4, 4, true}, given, 3.0), UserError);
}

TEST(PickGrid, AxesThatDoNotDivideTheRanksAreRefusedWithBothNumbers) {
  const auto error_of = [](int ranks, const GridConfig& given) -> std::string {
    try {
      picked({ranks, ranks, true}, given, 3.0);
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  GridConfig given;
  given.tensor_parallel_size = 2;
  EXPECT_EQ(error_of(1, given), "tensor 2 takes 2 ranks, or a multiple of them, and there is 1");
  given.pipeline_partition = {2, 2, 1};
  EXPECT_EQ(error_of(4, given),
            "pipeline 3 x tensor 2 takes 6 ranks, or a multiple of them, and there are 4");
}

TEST(PickGrid, WithoutAModelEveryKindOfLinkIsUsed) {
  using Given = std::optional<int>;
  constexpr auto open = std::nullopt;
  const auto shape = [](int ranks, int ranks_per_node, Given data, Given pipeline, Given tensor) {
    return pick_grid_without_model({.ranks = ranks, .ranks_per_node = ranks_per_node},
                                   {tensor, pipeline, data, {}});
  };
  EXPECT_EQ(shape(1, 1, open, open, open), (GridShape{1, 1, 1}));
  EXPECT_EQ(shape(12, 4, open, open, open), (GridShape{1, 3, 4}));
  EXPECT_EQ(shape(5, 3, open, open, open), (GridShape{1, 5, 1}));
  EXPECT_EQ(shape(12, 4, open, open, 2), (GridShape{1, 6, 2}));
  EXPECT_EQ(shape(12, 4, open, 2, open), (GridShape{3, 2, 2}));
  EXPECT_EQ(shape(12, 4, 3, open, open), (GridShape{3, 1, 4}));
  EXPECT_EQ(shape(6, 2, 1, 1, open), (GridShape{1, 1, 6}));
  EXPECT_EQ(pick_grid_without_model({.ranks = 6, .ranks_per_node = 2}, {{}, {}, {}, {1, 1, 1}}),
            (GridShape{1, 3, 2}));
  EXPECT_THROW(shape(4, 4, open, open, 3), UserError);
  // 2^32 and 2^40 ranks, more than an int counts.
  EXPECT_THROW(shape(4, 4, 1 << 16, 1 << 16, open), UserError);
  EXPECT_THROW(shape(4, 4, 1 << 20, open, 1 << 20), UserError);
}

TEST(PlanGrids, ListsEveryFactorisationWithTheGivenAxes) {
  const PlanOptions options = options_for(3.0);
  EXPECT_EQ(plan_grids(tiny(), {4, 4, true}, {}, options).size(), 6U);
  GridConfig given;
  given.data_parallel_size = 2;
  for (const GridPlan& plan : plan_grids(tiny(), {4, 4, true}, given, options)) {
    EXPECT_EQ(plan.shape.data, 2);
    EXPECT_EQ(plan.shape.ranks(), 4);
  }
}

}  // namespace
}  // namespace millrace
