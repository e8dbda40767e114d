#include "core/io/fingerprint.hpp"

#include <gmock/gmock.h>

#include <random>

#include "core/io/digest.hpp"
#include "core/io/line_count.hpp"
#include "kernels/base/error.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

using testing::ElementsAre;

std::uint64_t digest(std::string_view text) { return xxh64(std::as_bytes(std::span(text))); }

TEST(Digest, IsXxh64) {
  // Published values of the algorithm with seed 0.
  EXPECT_EQ(digest(""), 0xEF46DB3751D8E999U);
  EXPECT_EQ(digest("a"), 0xD24EC4F1A98C6E5BU);
  EXPECT_EQ(digest("abc"), 0x44BC2CF5AD770999U);
  EXPECT_EQ(digest("Nobody inspects the spammish repetition"), 0xFBCEA83C8A378BF1U);
}

TEST(Digest, ChangesWithEveryBit) {
  std::string text(100, 'x');
  std::vector<std::uint64_t> seen = {digest(text)};
  for (char& c : text) {
    c ^= 1;
    seen.push_back(digest(text));
    c ^= 1;
  }
  std::ranges::sort(seen);
  EXPECT_EQ(std::ranges::adjacent_find(seen), seen.end());
}

TEST(Fingerprint, DifferencesNameTheOldAndTheNewValue) {
  const Fingerprint was{{{"--seed", "0"}, {"--top-k", "5"}, {"vocab.json", "10 bytes"}}, {}};
  const Fingerprint is{{{"--top-k", "6"}, {"--seed", "0"}, {"merges.txt", "7 bytes"}}, {}};
  EXPECT_THAT(differences(was, is),
              ElementsAre("--top-k was 5, is 6", "vocab.json was 10 bytes, is not there now",
                          "merges.txt was not there, is 7 bytes"));
  EXPECT_TRUE(differences(was, was).empty());
  const Fingerprint strange{{{"a\n", "\x1b[2J"}}, {}};
  EXPECT_THAT(differences(strange, {}), ElementsAre("a\\x0A was \\x1B[2J, is not there now"));
}

TEST(Fingerprint, WholeFilesAreComparedWhereBothSidesHaveThem) {
  const Fingerprint sampled{{{"a", "1"}}, {}};
  const Fingerprint deep{{{"a", "1"}}, {{"every byte of a", "2"}}};
  const Fingerprint other{{{"a", "1"}}, {{"every byte of a", "3"}}};
  EXPECT_TRUE(differences(sampled, deep).empty());
  EXPECT_TRUE(differences(deep, sampled).empty());
  EXPECT_THAT(differences(deep, other), ElementsAre("every byte of a was 2, is 3"));
}

TEST(SampleFile, OfASmallFileIsEveryByte) {
  const TemporaryFolder folder;
  std::string text(100'000, 'x');
  write_file(folder / "f", text);
  const std::string sampled = sample_file(folder / "f");
  EXPECT_THAT(sampled, testing::StartsWith("100,000 bytes, samples "));
  text[77'777] = 'y';
  write_file(folder / "f", text);
  EXPECT_NE(sample_file(folder / "f"), sampled);
  EXPECT_THROW(sample_file(folder / "none"), UserError);
}

TEST(SampleFile, OfALargeOneIsItsEndsAndPlacesBetween) {
  const TemporaryFolder folder;
  const std::int64_t size = 40 << 20;
  write_file(folder / "f", "");
  std::filesystem::resize_file(folder / "f", size);  // zeroes that take no room
  const std::string sampled = sample_file(folder / "f");
  const auto pieces = [&] {
    std::vector<std::uint64_t> digests;
    for (std::int64_t piece = 0; piece * digest_piece_bytes < size; ++piece) {
      digests.push_back(digest_piece(folder / "f", piece));
    }
    return describe_pieces(size, digests);
  };
  const std::string whole = pieces();
  const auto changed_at = [&](std::int64_t position) {
    std::fstream file(folder / "f", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(position);
    file.put('x');
  };
  changed_at(3 << 20);  // between the samples: only --deep sees it
  EXPECT_EQ(sample_file(folder / "f"), sampled);
  EXPECT_NE(pieces(), whole);
  changed_at(1000);
  const std::string with_head = sample_file(folder / "f");
  EXPECT_NE(with_head, sampled);
  changed_at(size - 10);
  EXPECT_NE(sample_file(folder / "f"), with_head);
}

TEST(CountLines, CountsTheLinesThatBeginInARange) {
  const TemporaryFolder folder;
  write_file(folder / "f", "one\n\nthree\nfour");
  EXPECT_EQ(count_lines(folder / "f", {0, 15}), 4);
  EXPECT_EQ(count_lines(folder / "f", {0, 0}), 0);
  EXPECT_EQ(count_lines(folder / "f", {0, 4}), 1);
  EXPECT_EQ(count_lines(folder / "f", {4, 11}), 2);
  EXPECT_EQ(count_lines(folder / "f", {11, 15}), 1);
  EXPECT_THROW(count_lines(folder / "f", {0, 16}), UserError);
}

}  // namespace
}  // namespace millrace
