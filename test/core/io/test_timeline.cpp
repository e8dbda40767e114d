#include "core/io/timeline.hpp"

#include <gtest/gtest.h>

namespace millrace {
namespace {

TimelineRow at(double seconds, std::int32_t replica = 0) {
  TimelineRow row;
  row.seconds = seconds;
  row.replica = replica;
  row.output_tokens = static_cast<std::int64_t>(seconds * 10);
  return row;
}

TEST(Timeline, KeepsEverythingBelowItsLimit) {
  Timeline timeline(10);
  EXPECT_TRUE(timeline.rows().empty());
  for (int i = 0; i < 10; ++i) {
    timeline.add(at(i));
  }
  ASSERT_EQ(timeline.rows().size(), 10U);
  EXPECT_EQ(timeline.rows()[3], at(3));
}

TEST(Timeline, StaysEvenAndBoundedAboveIt) {
  Timeline timeline(100);
  for (int i = 0; i < 123457; ++i) {
    timeline.add(at(i));
    ASSERT_LE(timeline.rows().size(), 101U);
  }
  const std::vector<TimelineRow> rows = timeline.rows();
  ASSERT_GE(rows.size(), 50U);
  EXPECT_EQ(rows.front(), at(0));
  EXPECT_EQ(rows.back(), at(123456)) << "the last sample is there";
  const double step = rows[1].seconds - rows[0].seconds;
  for (std::size_t i = 2; i + 1 < rows.size(); ++i) {
    ASSERT_EQ(rows[i].seconds - rows[i - 1].seconds, step);
  }
}

TEST(Timeline, ReplicasJoinInTimeWithinTheLimit) {
  std::vector<std::vector<TimelineRow>> replicas(3);
  for (int i = 0; i < 1000; ++i) {
    for (int replica = 0; replica < 3; ++replica) {
      replicas[static_cast<std::size_t>(replica)].push_back(at(i + 0.1 * replica, replica));
    }
  }
  const auto all = join_timelines(replicas, 3000);
  EXPECT_EQ(all.size(), 3000U);
  const auto thinned = join_timelines(replicas, 200);
  EXPECT_LE(thinned.size(), 200U);
  EXPECT_GE(thinned.size(), 150U);
  EXPECT_TRUE(std::is_sorted(thinned.begin(), thinned.end(),
                             [](const auto& a, const auto& b) { return a.seconds < b.seconds; }));
  EXPECT_EQ(thinned.back(), at(999.2, 2));
}

}  // namespace
}  // namespace millrace
