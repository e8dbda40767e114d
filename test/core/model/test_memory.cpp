#include "core/model/memory.hpp"

#include <gtest/gtest.h>

#include "specs.hpp"

namespace millrace {
namespace {

using test::smollm2;

TEST(Memory, ACacheBlockHoldsKeysAndValuesOfTheRanksLayersAndKvHeads) {
  const RankSlices whole = partition(smollm2(), {1, 1, 1}, {0, 0, 0});
  EXPECT_EQ(cache_block_bytes(smollm2(), whole, 16, DType::f32), 30 * 2 * 3 * 64 * 16 * 4);
  // tp 4 replicates KV head 2 on ranks 2 and 3.
  for (int rank = 0; rank < 4; ++rank) {
    const RankSlices part = partition(smollm2(), {1, 2, 4}, {0, 1, rank});
    EXPECT_EQ(cache_block_bytes(smollm2(), part, 16, DType::bf16), 13 * 2 * 1 * 64 * 16 * 2);
  }
}

TEST(Memory, TokensAreWholeBlocksAndConcurrencyCountsRequestsOfTheMaximalLength) {
  const CacheCapacity capacity = cache_capacity(1000, 16, 100);  // 7 blocks a request
  EXPECT_EQ(capacity.blocks, 1000);
  EXPECT_EQ(capacity.tokens, 16000);
  EXPECT_DOUBLE_EQ(capacity.concurrency, 1000.0 / 7.0);
}

}  // namespace
}  // namespace millrace
