#include "core/io/report.hpp"

#include <gmock/gmock.h>

namespace millrace {
namespace {

using testing::ElementsAre;

TEST(Report, KvLinesAreTheWordsThatUsersGrepFor) {
  // 40,202 blocks of 16 are 643,232 tokens; 40,960 tokens take 2,560 blocks: 15.70 requests.
  EXPECT_THAT(kv_cache_lines("GPU", std::vector<std::int64_t>{40202}, 16, 40960),
              ElementsAre("GPU KV cache size: 643,232 tokens",
                          "Maximum concurrency for 40,960 tokens per request: 15.70x"));
}

TEST(Report, ARequestTakesWholeBlocks) {
  EXPECT_DOUBLE_EQ(maximum_concurrency(10, 16, 17), 5);
  EXPECT_DOUBLE_EQ(maximum_concurrency(10, 16, 16), 10);
}

TEST(Report, ReplicasAreGroupedAndTotalled) {
  EXPECT_THAT(
      kv_cache_lines("CPU", std::vector<std::int64_t>{100, 100, 50}, 10, 100),
      ElementsAre("Replicas 0-1, each: CPU KV cache size: 1,000 tokens",
                  "Replicas 0-1, each: Maximum concurrency for 100 tokens per request: 10.00x",
                  "Replica 2: CPU KV cache size: 500 tokens",
                  "Replica 2: Maximum concurrency for 100 tokens per request: 5.00x",
                  "In total: CPU KV cache size: 2,500 tokens",
                  "In total: Maximum concurrency for 100 tokens per request: 25.00x"));
}

TEST(Report, TheSmallestRankOfAReplicaDecides) {
  KvCacheReport kv;
  for (const auto& [rank, replica, blocks] :
       {std::tuple{0, 0, 90}, std::tuple{1, 0, 80}, std::tuple{2, 1, 70}, std::tuple{3, 1, 75}}) {
    KvCacheRow row;
    row.rank = rank;
    row.replica = replica;
    row.blocks = blocks;
    kv.ranks.push_back(row);
  }
  EXPECT_THAT(replica_blocks(kv), ElementsAre(80, 70));
  EXPECT_EQ(limiting_rank(kv), 2);
  EXPECT_EQ(limiting_rank({}), -1);
  kv.block_size = 16;
  EXPECT_THAT(
      limit_lines(kv),
      ElementsAre(
          "KV cache limited by rank 1 (1,280 tokens; other ranks of replica 0 up to 1,440)",
          "KV cache limited by rank 2 (1,120 tokens; other ranks of replica 1 up to 1,200)"));
  kv.ranks[0].blocks = 80;
  kv.ranks[3].blocks = 70;
  EXPECT_THAT(limit_lines(kv), ElementsAre());
}

TEST(Report, NumbersHaveCommas) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(-1234567), "-1,234,567");
  EXPECT_EQ(with_commas(100000), "100,000");
  EXPECT_EQ(rate_text(6.08), "6.1");
  EXPECT_EQ(rate_text(13839.14), "13,839");
}

}  // namespace
}  // namespace millrace
