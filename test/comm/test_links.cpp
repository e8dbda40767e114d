// Hosts and links as every rank sees them.
#include <gtest/gtest.h>

#include <cstring>

#include "comm/comm_mpi.hpp"
#include "comm/environment.hpp"
#include "comm/hosts.hpp"
#include "comm/links.hpp"

namespace millrace {
namespace {

const Comm& world() {
  static const Environment instance;
  return instance.world();
}

TEST(Hosts, AllTestRanksAreOnThisOne) {
  const auto hosts = hosts_of(world());
  ASSERT_EQ(hosts.size(), 1U);
  EXPECT_EQ(hosts[0].name, host_name());
  ASSERT_EQ(hosts[0].ranks.size(), static_cast<std::size_t>(world().size()));
  for (int rank = 0; rank < world().size(); ++rank) {
    EXPECT_EQ(hosts[0].ranks[static_cast<std::size_t>(rank)], rank);
  }
}

TEST(Links, EveryNeighbourPairIsMeasuredAndAllRanksAgree) {
  const std::vector<Link> links = measure_links(world(), Device::cpu());
  ASSERT_EQ(links.size(), static_cast<std::size_t>(world().size() - 1));
  for (std::size_t i = 0; i < links.size(); ++i) {
    EXPECT_EQ(links[i].from, static_cast<int>(i));
    EXPECT_EQ(links[i].to, static_cast<int>(i) + 1);
    EXPECT_GT(links[i].latency_microseconds, 0);
    EXPECT_GT(links[i].gigabytes_per_second, 0);
  }
  Bytes first = world().all_gather_bytes(std::as_bytes(std::span(links))).front();
  EXPECT_EQ(0, std::memcmp(first.data(), links.data(), first.size()));
}

TEST(Links, RanksOfOneHostTalkThroughSharedMemory) {
  const std::vector<LinkPath> paths = link_paths(world(), Device::cpu());
  ASSERT_EQ(paths.size(), static_cast<std::size_t>(world().size() - 1));
  for (std::size_t i = 0; i < paths.size(); ++i) {
    EXPECT_EQ(paths[i].from, static_cast<int>(i));
    EXPECT_EQ(paths[i].to, static_cast<int>(i) + 1);
    EXPECT_FALSE(paths[i].across_hosts);
    EXPECT_EQ(paths[i].way, "shared memory");
    EXPECT_EQ(paths[i].kind, LinkKind::shared);
  }
}

TEST(Links, WithoutSharedMemoryMpiMovesThem) {
  const Comm plain = mpi_world(false);
  for (const LinkPath& path : link_paths(plain, Device::cpu())) {
    EXPECT_EQ(path.way, "MPI vader");
    EXPECT_EQ(path.kind, LinkKind::shared);
  }
}

TEST(AllReduceTimes, AreMeasuredWhereThereIsSomebodyToSumWith) {
  const AllReduceTimes times = measure_all_reduce(world(), Device::cpu());
  EXPECT_EQ(times.small_microseconds > 0, world().size() > 1);
  EXPECT_EQ(times.gigabytes_per_second > 0, world().size() > 1);
}

}  // namespace
}  // namespace millrace
