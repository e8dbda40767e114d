// The choice among the ways of an all-reduce: a table of times in, one way for every size out.
#include "comm/reduce_way.hpp"

#include <gtest/gtest.h>

namespace millrace {
namespace {

using Way = ReduceWay;

TEST(ReduceChoice, IsNcclBeforeAnythingWasMeasured) {
  const ReduceChoice choice;
  EXPECT_EQ(choice.way(1), Way::nccl);
  EXPECT_EQ(choice.way(std::size_t{1} << 40), Way::nccl);
  EXPECT_EQ(choice.describe(), "NCCL");
}

TEST(ReduceChoice, TakesTheFastestWayOfTheNearestSizeMeasured) {
  const ReduceChoice choice({{1024, {{Way::nccl, 7}, {Way::words, 3}, {Way::one_shot, 4}}},
                             {16'384, {{Way::nccl, 7}, {Way::words, 6}, {Way::one_shot, 5}}},
                             {262'144, {{Way::nccl, 9}, {Way::words, 20}, {Way::one_shot, 8}}},
                             {1'048'576, {{Way::nccl, 14}, {Way::one_shot, 14.5}}}});
  EXPECT_EQ(choice.way(1), Way::words);
  EXPECT_EQ(choice.way(4096), Way::words);  // as near to 1,024 as to 16,384: the smaller one's
  EXPECT_EQ(choice.way(4097), Way::one_shot);
  EXPECT_EQ(choice.way(524'288), Way::one_shot);
  EXPECT_EQ(choice.way(524'289), Way::nccl);
  EXPECT_EQ(choice.way(1U << 30U), Way::nccl);
  EXPECT_EQ(choice.describe(), "words up to 4 KiB, one-shot up to 512 KiB, then NCCL");
}

TEST(ReduceChoice, NamesOneWayThatWinsEverywhere) {
  const ReduceChoice choice({{8192, {{Way::nccl, 7}, {Way::two_shot, 3}}},
                             {1 << 20, {{Way::nccl, 70}, {Way::two_shot, 30}}}});
  EXPECT_EQ(choice.way(1), Way::two_shot);
  EXPECT_EQ(choice.way(1U << 30U), Way::two_shot);
  EXPECT_EQ(choice.describe(), "two-shot");
}

}  // namespace
}  // namespace millrace
