// What decode steps are padded to, so that few recorded graphs serve all of them.
#include <gtest/gtest.h>

#include <set>

#include "core/engine/graph_sizes.hpp"

namespace millrace {
namespace {

BatchLimits limits(std::int64_t sequences, std::int64_t blocks_per_sequence) {
  return {.tokens = 8192,
          .sequences = sequences,
          .blocks_per_sequence = blocks_per_sequence,
          .block_size = 16};
}

TEST(GraphSizes, HoldEveryStepThatTheLimitsAllowAndNoMore) {
  for (const std::int64_t most : {1, 7, 100, 1000, 1024, 1025, 2000, 4096, 5000}) {
    const GraphSizes sizes(limits(most, 256));
    for (std::int64_t n = 1; n <= most; ++n) {
      const GraphSize padded = sizes.padded(n, 100);
      ASSERT_GE(padded.sequences, n);
      ASSERT_LE(padded.sequences, most);
      ASSERT_EQ(padded, sizes.padded(padded.sequences, padded.table_width)) << n;
    }
  }
  for (const std::int64_t most : {1, 31, 33, 250, 256}) {
    const GraphSizes sizes(limits(8, most));
    for (std::int64_t blocks = 1; blocks <= most; ++blocks) {
      ASSERT_GE(sizes.padded(1, blocks).table_width, blocks);
      ASSERT_LE(sizes.padded(1, blocks).table_width, most);
    }
  }
}

TEST(GraphSizes, PadLargeStepsByLittle) {
  const GraphSizes sizes(limits(8192, 256));
  for (std::int64_t n = 65; n <= 8192; ++n) {
    const std::int64_t padding = sizes.padded(n, 1).sequences - n;
    ASSERT_LT(padding * 16, n + 256) << n;
    if (n > 256) {
      ASSERT_LT(padding * 8, n) << n;
    }
  }
}

TEST(GraphSizes, AreFewAndCounted) {
  for (const std::int64_t most : {1, 9, 256, 1024, 1100, 2048, 4096}) {
    for (const std::int64_t blocks : {1, 40, 256}) {
      const GraphSizes sizes(limits(most, blocks));
      std::set<GraphSize> seen;
      for (std::int64_t n = 1; n <= most; ++n) {
        for (std::int64_t b = 1; b <= blocks; ++b) seen.insert(sizes.padded(n, b));
      }
      EXPECT_EQ(sizes.count(), static_cast<std::int64_t>(seen.size())) << most << " " << blocks;
    }
  }
  // A width's graphs: 44 for 1,024 sequences, 16 more each time their number doubles.
  EXPECT_EQ(GraphSizes(limits(1024, 32)).count(), 44);
  EXPECT_EQ(GraphSizes(limits(2048, 32)).count(), 60);
  EXPECT_EQ(GraphSizes(limits(4096, 32)).count(), 76);
}

}  // namespace
}  // namespace millrace
