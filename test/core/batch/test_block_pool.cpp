#include "core/batch/block_pool.hpp"

#include <gtest/gtest.h>

#include <set>

namespace millrace {
namespace {

TEST(BlockPool, HandsOutEveryBlockOnce) {
  BlockPool pool(5);
  std::set<std::int32_t> blocks;
  while (pool.num_free() > 0) blocks.insert(pool.allocate());
  EXPECT_EQ(blocks, (std::set<std::int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(pool.num_used(), 5);
  EXPECT_THROW(pool.allocate(), std::logic_error);
}

TEST(BlockPool, GivesBackTheBlockReleasedLast) {
  BlockPool pool(3);
  const std::int32_t first = pool.allocate();
  const std::int32_t second = pool.allocate();
  pool.release(std::vector{second, first});
  EXPECT_EQ(pool.allocate(), first);
  EXPECT_EQ(pool.allocate(), second);
}

TEST(BlockPool, RefusesABlockThatIsNotInUse) {
  BlockPool pool(3);
  const std::int32_t block = pool.allocate();
  EXPECT_THROW(pool.release(std::vector{3}), std::logic_error);
  EXPECT_THROW(pool.release(std::vector{-1}), std::logic_error);
  EXPECT_THROW(pool.release(std::vector{block, block}), std::logic_error);
}

}  // namespace
}  // namespace millrace
