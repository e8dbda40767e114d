// Leaders take ranges from rank 0: each byte goes to exactly one of them, however fast each is.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <thread>

#include "comm/environment.hpp"
#include "comm/work_server.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

const Comm& world() {
  static const Environment instance;
  return instance.world();
}

std::vector<ByteRange> drain(WorkClient& client, std::chrono::milliseconds pause_each) {
  std::vector<ByteRange> taken;
  while (auto range = client.next()) {
    taken.push_back(*range);
    std::this_thread::sleep_for(pause_each);
  }
  EXPECT_FALSE(client.next().has_value());
  return taken;
}

// All ranks' ranges in file order, on every rank.
std::vector<ByteRange> everybodys(const std::vector<ByteRange>& mine) {
  std::vector<ByteRange> all;
  for (const Bytes& bytes : world().all_gather_bytes(std::as_bytes(std::span(mine)))) {
    const std::size_t old_size = all.size();
    all.resize(old_size + bytes.size() / sizeof(ByteRange));
    if (!bytes.empty()) std::memcpy(all.data() + old_size, bytes.data(), bytes.size());
  }
  std::sort(all.begin(), all.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; });
  return all;
}

TEST(WorkServer, HandsEveryByteToExactlyOneLeader) {
  for (const std::int64_t size : {0L, 1L, 2000L, 5'000'000L}) {
    std::vector<ByteRange> taken;
    {
      WorkClient client(world(), {{0, size}});
      taken = drain(client, std::chrono::milliseconds(0));
    }
    std::int64_t position = 0;
    for (const ByteRange& range : everybodys(taken)) {
      ASSERT_EQ(range.begin, position);
      position = range.end;
    }
    EXPECT_EQ(position, size);
  }
}

TEST(WorkServer, ASlowLeaderTakesLess) {
  if (world().size() == 1) GTEST_SKIP() << "needs two ranks";
  const bool slow = world().rank() == world().size() - 1;
  WorkClient client(world(), {{0, 4'000'000}});
  std::int64_t bytes = 0;
  for (const ByteRange& range : drain(client, std::chrono::milliseconds(slow ? 40 : 2))) {
    bytes += range.bytes();
  }
  const std::int64_t most = world().all_reduce_max(bytes);
  if (slow) {
    EXPECT_LT(bytes, most / 2);
  }
}

TEST(WorkServer, OnlyRankZerosWorkCounts) {
  const std::int64_t size = world().rank() == 0 ? 3000 : 7;
  WorkClient client(world(), {{0, size}});
  const auto all = everybodys(drain(client, std::chrono::milliseconds(1)));
  EXPECT_EQ(all.back().end, 3000);
}

TEST(WorkServer, ALeaderThatStopsEarlyDoesNotHoldTheOthers) {
  WorkClient client(world(), {{0, 100'000}});
  if (world().rank() % 2 == 1) return;  // never asks
  drain(client, std::chrono::milliseconds(0));
}

TEST(WorkServer, AnExceptionOnRankZeroDoesNotWaitForTheOthers) {
  EXPECT_THROW(
      {
        const WorkClient client(world(), {{0, 100'000}});
        throw UserError("while the work is under way");
      },
      UserError);
  world().barrier();
}

TEST(WorkServer, SleepsWhileNobodyAsks) {
  WorkClient client(world(), {{0, 100'000}});
  world().barrier();
  const std::clock_t before = std::clock();  // processor time of all threads
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  const double busy_seconds = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(busy_seconds, 0.1);
  world().barrier();
  drain(client, std::chrono::milliseconds(0));
}

}  // namespace
}  // namespace millrace
