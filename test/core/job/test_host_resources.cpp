// Memory and cores are what the kernel and the control groups of this process leave.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "core/job/host_resources.hpp"
#include "test/temporary_folder.hpp"

namespace millrace {
namespace {

// A made-up /proc and /sys.
class FakeHost : public ::testing::Test {
 protected:
  FakeHost() {
    write("proc/meminfo", "MemTotal:  2000 kB\nMemFree:  10 kB\nMemAvailable:    1000 kB\n");
  }

  void write(const std::string& path, const std::string& text) const { folder_.write(path, text); }

  const TemporaryFolder folder_;
  const std::filesystem::path root_ = folder_.path();
};

TEST_F(FakeHost, WithoutLimitsMemoryIsWhatTheKernelCallsAvailable) {
  EXPECT_EQ(available_memory_bytes(root_), 1000 * 1024);
}

TEST_F(FakeHost, AControlGroupAboveMayBeTheTightest) {
  write("proc/self/cgroup", "0::/jobs/step\n");
  write("sys/fs/cgroup/jobs/step/memory.max", "max\n");
  write("sys/fs/cgroup/jobs/step/memory.current", "5\n");
  write("sys/fs/cgroup/jobs/memory.max", "500000\n");
  write("sys/fs/cgroup/jobs/memory.current", "300000\n");
  write("sys/fs/cgroup/jobs/memory.stat", "anon 7\ninactive_file 100000\n");
  EXPECT_EQ(available_memory_bytes(root_), 300000);
}

TEST_F(FakeHost, AContainerSeesOnlyTheTopOfItsGroups) {
  write("proc/self/cgroup", "0::/docker/0123\n");
  write("sys/fs/cgroup/memory.max", "4096\n");
  write("sys/fs/cgroup/memory.current", "8192\n");
  EXPECT_EQ(available_memory_bytes(root_), 0);
}

TEST_F(FakeHost, VersionOneGroupsCountAsWell) {
  write("proc/self/cgroup", "4:cpu:/x\n5:memory:/x\n");
  write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "900000\n");
  write("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "400000\n");
  write("sys/fs/cgroup/memory/x/memory.stat", "total_inactive_file 1\n");
  EXPECT_EQ(available_memory_bytes(root_), 500001);
}

TEST_F(FakeHost, AWideGroupDoesNotRaiseTheMachinesOwnLimit) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/memory.max", "999999999999\n");
  write("sys/fs/cgroup/memory.current", "0\n");
  EXPECT_EQ(available_memory_bytes(root_), 1000 * 1024);
}

TEST(ThreadsOf, RanksThatShareCoresDivideThem) {
  const std::vector<int> all = {0, 1, 2, 3};
  EXPECT_EQ(threads_of({all}, 0), 4);
  EXPECT_EQ(threads_of({all, all}, 1), 2);
  EXPECT_EQ(threads_of({all, all, all, all, all}, 2), 1);
}

TEST(ThreadsOf, RanksBoundApartKeepTheirOwn) {
  EXPECT_EQ(threads_of({{0, 1}, {2, 3}, {4}}, 0), 2);
  EXPECT_EQ(threads_of({{0, 1}, {2, 3}, {4}}, 2), 1);
}

TEST(AvailableMemory, OfThisHostIsPositive) { EXPECT_GT(available_memory_bytes(), 1 << 20); }

TEST(ShareCores, OneRankAloneTakesWhatItMay) {
  const CoreShare share = share_cores(Comm());
  EXPECT_EQ(share.threads, static_cast<int>(allowed_cores().size()));
  EXPECT_EQ(share.ranks_cores, share.threads);
}

TEST(SecondsSinceStart, GrowsFromASmallNumber) {
  const double first = seconds_since_start();
  ::usleep(30000);
  EXPECT_GE(first, 0);
  EXPECT_LT(first, 60);
  EXPECT_GT(seconds_since_start(), first);
}

}  // namespace
}  // namespace millrace
