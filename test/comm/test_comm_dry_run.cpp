// One process as any rank of a thousand: the grid and its communicators without anybody behind
// them.
#include <gtest/gtest.h>

#include "comm/agree.hpp"
#include "comm/comm_dry_run.hpp"
#include "comm/grid.hpp"

namespace millrace {
namespace {

TEST(DryRun, TheGridOf1024RanksHasTheRightCommunicatorsOnEveryRank) {
  const GridShape shape{16, 8, 8};
  for (int rank = 0; rank < shape.ranks(); ++rank) {
    const Grid grid(dry_run_world({rank, 1024, 8}), shape);
    const GridCoordinates at = coordinates_of(rank, shape);
    ASSERT_EQ(grid.world().rank(), rank);
    ASSERT_EQ(grid.tensor().rank(), at.tensor);
    ASSERT_EQ(grid.tensor().size(), 8);
    ASSERT_EQ(grid.pipeline().rank(), at.pipeline);
    ASSERT_EQ(grid.replica().rank(), rank % 64);
    ASSERT_EQ(grid.node().size(), 8);
    ASSERT_EQ(grid.node().rank(), rank % 8);
    if (grid.is_leader()) {
      ASSERT_EQ(grid.leaders().rank(), at.data);
      ASSERT_EQ(grid.leaders().size(), 16);
    }
  }
}

TEST(DryRun, AnUnevenLastHostHasTheRestOfTheRanks) {
  EXPECT_EQ(dry_run_world({9, 10, 4}).split_by_host().size(), 2);
  EXPECT_EQ(dry_run_world({8, 9, 4}).split_by_host().size(), 1);
}

TEST(DryRun, CollectivesCostNothingAndFillWhatTheyMust) {
  const Comm world = dry_run_world({2, 3, 1});
  std::vector<float> values = {1, 2};
  std::vector<float> gathered(6);
  const TensorView x(values.data(), DType::f32, Device::cpu(), {2});
  world.all_reduce_sum(x, {});
  EXPECT_EQ(values, (std::vector<float>{1, 2}));
  world.all_gather(TensorView(gathered.data(), DType::f32, Device::cpu(), {6}), x, {});
  EXPECT_EQ(gathered, (std::vector<float>{1, 2, 1, 2, 1, 2}));
  world.send(x, 0, {});
  world.recv(x, 1, {});
  EXPECT_EQ(world.all_reduce_sum(5), 15);
  EXPECT_EQ(world.all_reduce_max(5), 5);
  EXPECT_EQ(world.all_gather_bytes(as_bytes("ab")).size(), 3U);
  EXPECT_EQ(agree(world, [] { return 4; }), 4);
  EXPECT_ANY_THROW(agree(world, [] { throw std::runtime_error("no"); }));
}

TEST(DryRun, WhatCannotBeKnownIsRefusedByName) {
  const Comm world = dry_run_world({0, 2, 1});
  EXPECT_THROW(world.split(0, 0), std::logic_error);
  EXPECT_THROW(world.receive_bytes(1, 0), std::logic_error);
  EXPECT_THROW(dry_run_world({4, 4, 1}), std::logic_error);
}

}  // namespace
}  // namespace millrace
