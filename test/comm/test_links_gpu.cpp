// The ways between GPUs as NCCL tells them, and what they carry. Needs a GPU for every rank.
#include <gmock/gmock.h>

#include "comm/gpu_links.hpp"
#include "comm/links.hpp"
#include "comm/nccl_log.hpp"
#include "kernels/base/device_facts.hpp"
#include "test/comm/gpu_ranks.hpp"

namespace millrace {
namespace {

class GpuLinks : public GpuRanks {
 protected:
  static const Comm& bound() {
    static const Comm comm = [] {
      Comm made = world().duplicate();
      made.bind(device());
      return made;
    }();
    return comm;
  }
};

TEST_F(GpuLinks, NcclTellsOfEveryNeighbour) {
  const std::vector<LinkPath> paths = link_paths(bound(), device());
  EXPECT_EQ(NcclLog::instance().obstacle(), "");
  for (int rank = 0; rank + 1 < world().size(); ++rank) {
    const auto path = std::ranges::find_if(
        paths, [&](const LinkPath& p) { return p.from == rank && p.to == rank + 1; });
    ASSERT_NE(path, paths.end()) << rank;
    EXPECT_NE(path->kind, LinkKind::unknown) << path->way;
    EXPECT_FALSE(path->across_hosts);
  }
}

// Two libraries that know nothing of each other.
TEST_F(GpuLinks, NcclTakesNvlinkWhereTheManagementLibrarySeesIt) {
  if (world().size() == 1) GTEST_SKIP() << "skipped: one rank has no neighbour";
  const std::string mine = device_facts(device()).pci_id;
  const std::string first(as_text(world().all_gather_bytes(as_bytes(mine)).front()));
  const std::vector<LinkPath> paths = link_paths(bound(), device());
  const bool is_nvlink = world().rank() != 0 && gpu_link(mine, first).starts_with("NV");
  const bool anybody = world().all_reduce_max(std::int64_t{is_nvlink}) == 1;
  const bool told = std::ranges::any_of(
      paths, [](const LinkPath& path) { return path.kind == LinkKind::nvlink; });
  EXPECT_EQ(told, anybody);
}

TEST_F(GpuLinks, AreMeasuredInDeviceMemory) {
  for (const Link& link : measure_links(bound(), device())) {
    EXPECT_GT(link.latency_microseconds, 0);
    EXPECT_GT(link.gigabytes_per_second, 1);
  }
  EXPECT_EQ(measure_all_reduce(bound(), device()).gigabytes_per_second > 0, world().size() > 1);
}

TEST_F(GpuLinks, TheDeviceKnowsItself) {
  const DeviceFacts facts = device_facts(device());
  EXPECT_THAT(facts.uuid, ::testing::MatchesRegex("GPU-[0-9a-f-]+"));
  EXPECT_EQ(facts.uuid.size(), 40U);
  EXPECT_EQ(facts.pci_id.size(), 12U);
  EXPECT_GE(facts.compute_capability, 80);
  EXPECT_GT(facts.free_bytes, 0);
  EXPECT_LE(facts.free_bytes, facts.memory_bytes);
  EXPECT_FALSE(gpu_driver_version().empty());
}

}  // namespace
}  // namespace millrace
