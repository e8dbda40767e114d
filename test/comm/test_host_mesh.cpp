// Pairs of hosts in rounds, and the measurement itself where there is only this host.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "comm/environment.hpp"
#include "comm/host_mesh.hpp"

namespace millrace {
namespace {

const Comm& world() {
  static const Environment instance;
  return instance.world();
}

using Pairs = std::set<std::pair<int, int>>;

// All pairs of the rounds; fails when somebody is in two pairs of a round, or a pair comes twice.
Pairs checked_pairs(const std::vector<std::vector<std::pair<int, int>>>& rounds) {
  Pairs all;
  for (const auto& round : rounds) {
    std::set<int> busy;
    for (const auto& [a, b] : round) {
      EXPECT_LT(a, b);
      EXPECT_TRUE(busy.insert(a).second && busy.insert(b).second) << a << " " << b;
      EXPECT_TRUE(all.emplace(a, b).second) << a << " " << b;
    }
  }
  return all;
}

TEST(PairRounds, MeetEveryPairOnceInAsFewRoundsAsThereAreOthers) {
  for (int count = 1; count <= 33; ++count) {
    const auto rounds = pair_rounds(count, {});
    EXPECT_EQ(checked_pairs(rounds).size(), static_cast<std::size_t>(count * (count - 1) / 2));
    EXPECT_LE(rounds.size(), static_cast<std::size_t>(count)) << count;
  }
}

TEST(PairRounds, OfManyHostsMeetThoseAtTheDistances) {
  const auto rounds = pair_rounds(1000, {1, 2, 4, 8, 16, 32, 64, 128, 256});
  const Pairs pairs = checked_pairs(rounds);
  EXPECT_EQ(pairs.size(), 9000U);
  EXPECT_TRUE(pairs.contains({0, 999}));  // the list is a circle
  EXPECT_TRUE(pairs.contains({3, 259}));
  EXPECT_LE(rounds.size(), 27U);
  EXPECT_EQ(checked_pairs(pair_rounds(64, {32})).size(), 32U);  // half the circle: each pair once
}

TEST(MeasureHosts, OneHostHasNoWaysAndItsOwnClock) {
  const HostMesh mesh = measure_hosts(world(), 20);
  ASSERT_EQ(mesh.hosts.size(), 1U);
  EXPECT_TRUE(mesh.links.empty());
  EXPECT_THAT(mesh.clock_seconds, ::testing::ElementsAre(0));
}

}  // namespace
}  // namespace millrace
