#include <gtest/gtest.h>

#include <random>

#include "core/io/line_count.hpp"
#include "core/job/prompts.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

TEST(PromptShards, TileTheFileAndBeginWhereLinesBegin) {
  const TemporaryFolder folder;
  std::mt19937 random(5);
  for (int trial = 0; trial < 50; ++trial) {
    std::string text;
    const int lines = static_cast<int>(random() % 40);
    for (int i = 0; i < lines; ++i) {
      text += std::string(random() % 30, 'x') + "\n";
    }
    if (trial % 3 == 0) {
      text += "the last line has no newline";
    }
    write_file(folder / "f", text);
    const int count = 1 + static_cast<int>(random() % 12);
    std::int64_t at = 0;
    std::int64_t counted = 0;
    for (int index = 0; index < count; ++index) {
      const ByteRange part = shard_of(folder / "f", std::ssize(text), index, count);
      ASSERT_EQ(part.begin, at) << index << " of " << count;
      ASSERT_GE(part.end, part.begin);
      ASSERT_TRUE(part.end == std::ssize(text) || part.end == 0 ||
                  text[static_cast<std::size_t>(part.end) - 1] == '\n');
      counted += count_lines(folder / "f", part);
      at = part.end;
    }
    ASSERT_EQ(at, std::ssize(text));
    ASSERT_EQ(counted, count_lines(folder / "f", {0, at}));
  }
}

TEST(PromptShards, AreOfAboutEqualBytes) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text += "a line of 20 bytes.\n";
  }
  write_file(folder / "f", text);
  for (int index = 0; index < 7; ++index) {
    EXPECT_NEAR(static_cast<double>(shard_of(folder / "f", std::ssize(text), index, 7).bytes()),
                20000.0 / 7, 20);
  }
}

}  // namespace
}  // namespace millrace
