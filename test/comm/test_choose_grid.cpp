// The choice of a grid: the house's rules, hand-computed, and what must hold for any question.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "comm/choose_grid.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// A model that needs this many ranks, however cut.
GridQuestion question(int world_size, int ranks_per_host, int ranks_needed) {
  GridQuestion result;
  result.world_size = world_size;
  result.ranks_per_host = ranks_per_host;
  result.most_tensor = 64;
  result.most_pipeline = 80;
  result.fits = [ranks_needed](int pipeline, int tensor) {
    return pipeline * tensor >= ranks_needed;
  };
  return result;
}

TEST(ChooseGrid, AModelThatFitsOneRankRunsDataParallel) {
  const GridChoice choice = choose_grid(question(16, 8, 1));
  EXPECT_EQ(choice.shape, (GridShape{16, 1, 1}));
  EXPECT_EQ(choice.explanation,
            "data 16 x pipeline 1 x tensor 1: the model fits one rank, so each rank is a replica");
}

TEST(ChooseGrid, ALargerModelIsCutByTensorsWithinTheHost) {
  EXPECT_EQ(choose_grid(question(8, 8, 2)).shape, (GridShape{4, 1, 2}));
  EXPECT_EQ(choose_grid(question(16, 8, 3)).shape, (GridShape{4, 1, 4}));
}

TEST(ChooseGrid, AModelLargerThanAHostGoesInStagesAcrossHosts) {
  const GridChoice choice = choose_grid(question(16, 4, 8));
  EXPECT_EQ(choice.shape, (GridShape{2, 2, 4}));
  EXPECT_THAT(choice.explanation, ::testing::HasSubstr("in stages beyond it"));
}

TEST(ChooseGrid, WithoutFastLinksTheHostIsAPipelineToo) {
  GridQuestion slow = question(8, 8, 4);
  slow.fast_links_in_host = false;
  EXPECT_EQ(choose_grid(slow).shape, (GridShape{2, 4, 1}));
}

TEST(ChooseGrid, WhatTheUserGivesStays) {
  GridQuestion given = question(8, 8, 1);
  given.tensor = 2;
  EXPECT_EQ(choose_grid(given).shape, (GridShape{4, 1, 2}));
  EXPECT_EQ(choose_grid(given).explanation,
            "data 4 x pipeline 1 x tensor 2: tensor 2 as given; 2 ranks hold the model");
  given.pipeline = 2;
  EXPECT_EQ(choose_grid(given).shape, (GridShape{2, 2, 2}));
  given = question(8, 8, 1);
  given.data = 2;
  EXPECT_EQ(choose_grid(given).shape, (GridShape{2, 1, 4}));
  given = question(6, 2, 1);  // tensor 3 spans hosts of 2 ranks, but the user wants it
  given.tensor = 3;
  EXPECT_EQ(choose_grid(given).shape, (GridShape{2, 1, 3}));
}

TEST(ChooseGrid, RespectsWhatTheModelCanTake) {
  GridQuestion few_heads = question(8, 8, 8);
  few_heads.most_tensor = 2;
  EXPECT_EQ(choose_grid(few_heads).shape, (GridShape{1, 4, 2}));
}

TEST(ChooseGrid, OddWorldsHaveGridsToo) {
  EXPECT_EQ(choose_grid(question(3, 3, 2)).shape, (GridShape{1, 1, 3}));
  EXPECT_EQ(choose_grid(question(7, 7, 1)).shape, (GridShape{7, 1, 1}));
}

TEST(ChooseGrid, SaysWhenNothingFits) {
  const GridChoice choice = choose_grid(question(4, 4, 100));
  EXPECT_EQ(choice.shape, (GridShape{1, 1, 4}));
  EXPECT_THAT(choice.explanation, ::testing::HasSubstr("does not fit even 4 ranks"));
}

TEST(ChooseGrid, RefusesAxesThatCannotBeWithTheValues) {
  GridQuestion impossible = question(8, 8, 1);
  impossible.tensor = 3;
  try {
    choose_grid(impossible);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::AllOf(::testing::HasSubstr("8 ranks"),
                                               ::testing::HasSubstr("tensor 3")));
  }
  impossible.tensor = 128;
  try {
    choose_grid(impossible);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.what(),
              fmt::format("tensor 128 is more than {}, the most that the model can be "
                          "cut into",
                          impossible.most_tensor));
  }
  impossible.tensor = 0;
  EXPECT_THROW(choose_grid(impossible), UserError);
}

TEST(ChooseGrid, AnyAnswerFillsTheWorldAndKeepsTensorGroupsWithinHosts) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 3000; ++trial) {
    const int per_host = 1 + static_cast<int>(random() % 8);
    const int hosts = 1 + static_cast<int>(random() % 16);
    const int needed = 1 + static_cast<int>(random() % 32);
    GridQuestion any = question(per_host * hosts, per_host, needed);
    any.fast_links_in_host = random() % 2 == 0;
    any.most_tensor = 1 + static_cast<int>(random() % 64);
    const GridShape shape = choose_grid(any).shape;
    ASSERT_NO_THROW(check_grid_shape(shape, any.world_size));
    ASSERT_EQ(per_host % shape.tensor, 0);
    ASSERT_LE(shape.tensor, any.most_tensor);
    // No grid with more replicas fits.
    if (shape.pipeline * shape.tensor >= needed) {
      for (int ranks = needed; ranks < shape.pipeline * shape.tensor; ++ranks) {
        ASSERT_NE(ranks <= any.most_pipeline ? any.world_size % ranks : 1, 0);
      }
    }
  }
}

}  // namespace
}  // namespace millrace
