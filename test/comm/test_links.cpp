// Hosts and links as every rank sees them.
#include <gtest/gtest.h>

#include <cstring>

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
  const LinkReport report = measure_links(world());
  EXPECT_FALSE(report.spans_hosts);
  ASSERT_EQ(report.links.size(), static_cast<std::size_t>(world().size() - 1));
  if (report.links.empty()) {
    EXPECT_EQ(report.transport, "none");
    return;
  }
  EXPECT_EQ(report.transport, "shared memory");
  for (std::size_t i = 0; i < report.links.size(); ++i) {
    EXPECT_EQ(report.links[i].from, static_cast<int>(i));
    EXPECT_EQ(report.links[i].to, static_cast<int>(i) + 1);
    EXPECT_GT(report.links[i].latency_microseconds, 0);
    EXPECT_GE(report.links[i].gigabytes_per_second, report.worst_gigabytes_per_second);
    EXPECT_LE(report.links[i].latency_microseconds, report.worst_latency_microseconds);
  }
  Bytes first = world().all_gather_bytes(std::as_bytes(std::span(report.links))).front();
  EXPECT_EQ(0, std::memcmp(first.data(), report.links.data(), first.size()));
}

}  // namespace
}  // namespace millrace
