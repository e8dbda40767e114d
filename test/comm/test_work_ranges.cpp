// The cutting of the prompt file: every byte once, shrinking, and small files spread too.
#include <gtest/gtest.h>

#include <random>

#include "comm/work_ranges.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

std::vector<ByteRange> all_ranges(std::vector<ByteRange> work, int replicas) {
  WorkRanges ranges(std::move(work), replicas);
  std::vector<ByteRange> handed_out;
  while (auto range = ranges.next()) handed_out.push_back(*range);
  EXPECT_EQ(ranges.remaining_bytes(), 0);
  EXPECT_FALSE(ranges.next().has_value());
  return handed_out;
}

TEST(WorkRanges, CoverEveryByteOnceInOrder) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<ByteRange> work;
    std::int64_t end = 0;
    for (auto pieces = random() % 4; pieces > 0; --pieces) {
      const auto begin = end + static_cast<std::int64_t>(random() % 1000);
      end = begin + static_cast<std::int64_t>(random() % (1ULL << (random() % 27)));
      work.push_back({begin, end});
    }
    std::vector<ByteRange> joined;  // what the ranges cover, neighbours joined
    for (const ByteRange& range : all_ranges(work, static_cast<int>(1 + random() % 64))) {
      ASSERT_GT(range.bytes(), 0);
      ASSERT_LE(range.bytes(), WorkRanges::largest_bytes);
      if (!joined.empty() && joined.back().end == range.begin) {
        joined.back().end = range.end;
      } else {
        joined.push_back(range);
      }
    }
    std::vector<ByteRange> expected;
    for (const ByteRange& piece : work) {
      if (piece.bytes() == 0) continue;
      if (!expected.empty() && expected.back().end == piece.begin) {
        expected.back().end = piece.end;
      } else {
        expected.push_back(piece);
      }
    }
    ASSERT_EQ(joined, expected);
  }
}

TEST(WorkRanges, TwentyShortPromptsSpreadOverFourReplicas) {
  const auto ranges = all_ranges({{0, 20 * 100}}, 4);
  EXPECT_GE(ranges.size(), 8U);
  for (const ByteRange& range : ranges) EXPECT_LE(range.bytes(), 256);
}

TEST(WorkRanges, StartLargeAndEndSmallInAHugeFile) {
  const std::int64_t file = std::int64_t{10} << 30;
  const auto ranges = all_ranges({{0, file}}, 16);
  EXPECT_EQ(ranges.front().bytes(), WorkRanges::largest_bytes);
  for (std::size_t i = 1; i + 1 < ranges.size(); ++i) {
    EXPECT_LE(ranges[i].bytes(), ranges[i - 1].bytes());
    EXPECT_GE(ranges[i].bytes(), WorkRanges::smallest_bytes);
  }
  // What one replica can be behind the others is a few of the last, smallest ranges.
  EXPECT_EQ(ranges[ranges.size() - 2].bytes(), WorkRanges::smallest_bytes);
}

TEST(WorkRanges, OfNothingAreNone) {
  EXPECT_TRUE(all_ranges({}, 3).empty());
  EXPECT_TRUE(all_ranges({{5, 5}, {9, 9}}, 3).empty());
}

TEST(WorkRanges, RefusePiecesThatOverlapOrGoBackwards) {
  EXPECT_THROW(WorkRanges({{0, 10}, {9, 12}}, 1), UserError);
  EXPECT_THROW(WorkRanges({{7, 5}}, 1), UserError);
  EXPECT_THROW(WorkRanges({{-4, 5}}, 1), UserError);
}

}  // namespace
}  // namespace millrace
