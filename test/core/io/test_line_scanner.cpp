#include "core/io/line_scanner.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "kernels/base/error.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

struct Found {
  std::int64_t offset;
  std::string text;
  bool too_long;
  friend bool operator==(const Found&, const Found&) = default;
};

void PrintTo(const Found& found, std::ostream* out) {
  *out << found.offset << ":\"" << found.text << (found.too_long ? "\" too long" : "\"");
}

class Lines : public testing::Test {
 protected:
  void write(std::string_view text) { write_file(path_, text); }

  // All lines of the file, read in ranges that end at `cuts` and at the end.
  std::vector<Found> read(std::vector<std::int64_t> cuts = {}, std::int64_t longest = 1000,
                          std::size_t block = 7) {
    LineScanner scanner(path_, longest, block);
    cuts.push_back(scanner.file_bytes());
    std::vector<Found> found;
    std::int64_t begin = 0;
    for (const std::int64_t end : cuts) {
      scanner.start(begin, end);
      while (const auto line = scanner.next()) {
        EXPECT_EQ(line->offset + line->bytes, scanner.position());
        found.push_back({line->offset, std::string(line->text), line->too_long});
      }
      begin = end;
    }
    return found;
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "prompts.txt";
};

TEST_F(Lines, EndWithANewlineOrTheFile) {
  write("one\ntwo\n\nfour");
  EXPECT_EQ(read(), (std::vector<Found>{
                        {0, "one", false}, {4, "two", false}, {8, "", false}, {9, "four", false}}));
  write("one\n");
  EXPECT_EQ(read(), (std::vector<Found>{{0, "one", false}}));
  write("\n\n");
  EXPECT_EQ(read(), (std::vector<Found>{{0, "", false}, {1, "", false}}));
}

TEST_F(Lines, AnEmptyFileHasNone) {
  write("");
  EXPECT_TRUE(read().empty());
}

TEST_F(Lines, AByteOrderMarkIsNotPartOfTheFirst) {
  write("\xEF\xBB\xBFone\n\xEF\xBB\xBFtwo");
  EXPECT_EQ(read(), (std::vector<Found>{{0, "one", false}, {7, "\xEF\xBB\xBFtwo", false}}));
}

TEST_F(Lines, MayHoldNul) {
  write(std::string_view("a\0b\nc", 5));
  EXPECT_EQ(read()[0].text, std::string_view("a\0b", 3));
}

TEST_F(Lines, BelongToTheRangeOfTheirFirstByte) {
  // Every pair of cuts of a file gives every line once, in order.
  const std::string text = "first\n\nthird line\nx\n\n\nlast one";
  write(text);
  const std::vector<Found> whole = read();
  ASSERT_EQ(whole.size(), 7U);
  const auto size = static_cast<std::int64_t>(text.size());
  for (std::int64_t a = 0; a <= size; ++a) {
    for (std::int64_t b = a; b <= size; ++b) {
      ASSERT_EQ(read({a, b}), whole) << a << " " << b;
    }
  }
}

TEST_F(Lines, SurviveRandomCutsAndBlocks) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (int i = 0; i < 300; ++i) {
      text += random() % 8 == 0 ? '\n' : static_cast<char>('a' + random() % 26);
    }
    write(text);
    std::vector<std::int64_t> cuts;
    for (std::int64_t cut = 0; (cut += 1 + static_cast<std::int64_t>(random() % 40)) < 300;) {
      cuts.push_back(cut);
    }
    const auto longest = static_cast<std::int64_t>(1 + random() % 20);
    ASSERT_EQ(read(cuts, longest, 1 + random() % 64), read({}, longest, 1000)) << round;
  }
}

TEST_F(Lines, TooLongOnesAreSteppedOver) {
  write("12345\n123456\n" + std::string(100, 'x') + "\nend");
  EXPECT_EQ(read({}, 5),
            (std::vector<Found>{
                {0, "12345", false}, {6, "", true}, {13, "", true}, {114, "end", false}}));
  EXPECT_EQ(read({20, 50, 90}, 5), read({}, 5)) << "ranges inside the long line hold no line";
}

TEST_F(Lines, AFileThatShrinksIsAnError) {
  write(std::string(100, 'x') + "\n" + std::string(100, 'y'));
  LineScanner scanner(path_, 1000, 16);
  scanner.start(0, scanner.file_bytes());
  std::filesystem::resize_file(path_, 50);
  EXPECT_THROW(scanner.next(), UserError);
}

TEST_F(Lines, AFileThatIsMissingOrAFolderIsAnError) {
  EXPECT_THROW(LineScanner(folder_ / "none", 10), UserError);
  EXPECT_THROW(LineScanner(folder_ / "", 10), UserError);
}

}  // namespace
}  // namespace millrace
