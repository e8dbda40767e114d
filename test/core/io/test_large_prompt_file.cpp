// A prompt file of 100 GB is never indexed: handing it out and reading any part of it takes the
// memory of one block.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>

#include "comm/work_ranges.hpp"
#include "core/io/line_scanner.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

constexpr std::int64_t file_bytes = 100'000'000'000;
constexpr int lines_at_each_place = 100;

std::int64_t peak_kib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

std::string line_at(std::int64_t place, int number) {
  return R"({"prompt": ")" + std::to_string(place) + "/" + std::to_string(number) + "\"}\n";
}

// A line end and lines after it at each of `places`, and holes between that take no disk.
void write_prompts(const std::filesystem::path& path, const std::vector<std::int64_t>& places) {
  std::ofstream file(path, std::ios::binary);
  for (const std::int64_t place : places) {
    file.seekp(place - 1);
    file << '\n';
    for (int i = 0; i < lines_at_each_place; ++i) file << line_at(place, i);
  }
  file.close();
  std::filesystem::resize_file(path, file_bytes);
}

TEST(LargePromptFile, EveryPartOf100GigabytesIsReadInTheMemoryOfABlock) {
  const TemporaryFolder folder;
  const auto path = folder / "prompts.jsonl";
  const std::vector<std::int64_t> places = {1, file_bytes / 2 + 12'345, file_bytes - 100'000};
  write_prompts(path, places);
  const std::int64_t before = peak_kib();
  LineScanner scanner(path, 1 << 20);
  ASSERT_EQ(scanner.file_bytes(), file_bytes);
  WorkRanges work({{0, file_bytes}}, 8);
  std::int64_t handed_out = 0;
  std::size_t found = 0;
  while (const auto range = work.next()) {
    ASSERT_EQ(range->begin, handed_out);
    handed_out = range->end;
    for (const std::int64_t place : places) {
      if (place < range->begin || place >= range->end) continue;
      scanner.start(place, range->end);
      std::int64_t offset = place;
      for (int i = 0; i < lines_at_each_place; ++i) {
        const auto line = scanner.next();
        ASSERT_TRUE(line);
        ASSERT_EQ(line->offset, offset);
        ASSERT_EQ(std::string(line->text) + "\n", line_at(place, i));
        offset += line->bytes;
      }
      ++found;
    }
  }
  EXPECT_EQ(handed_out, file_bytes);
  EXPECT_EQ(found, places.size());
  EXPECT_LT(peak_kib() - before, 16 << 10);
}

}  // namespace
}  // namespace millrace
