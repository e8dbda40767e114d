// The hand-written word splitters cut every text exactly where their expressions do; expressions
// mean what Oniguruma takes them to mean.
#include "core/text/word_splitter.hpp"

#include <gmock/gmock.h>

#include "core/text/regex.hpp"
#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"
#include "test/core/text/golden.hpp"
#include "test/fuzz/mutate.hpp"

namespace millrace::text {
namespace {

using testing::ElementsAre;

std::vector<std::string> words_by_hand(WordSplitter words, std::string_view text) {
  std::vector<std::string> cut;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = words(text, at);
    if (end <= at) throw std::logic_error("a word of no characters");
    cut.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return cut;
}

std::vector<std::string> matches(const Regex& regex, std::string_view text) {
  std::vector<std::string> found;
  regex.for_each_match(text, [&](std::size_t begin, std::size_t end) {
    found.emplace_back(text.substr(begin, end - begin));
  });
  return found;
}

class Splitter : public testing::TestWithParam<std::string_view> {
 protected:
  const WordSplitter words_ = word_splitter_for(GetParam());
  const Regex regex_{GetParam()};
};

TEST_P(Splitter, CutsTheGoldenStringsAsItsExpressionDoes) {
  ASSERT_NE(words_, nullptr);
  for (const std::string& bytes : golden_strings()) {
    std::string text;
    append_replacing_invalid(text, bytes);
    ASSERT_EQ(words_by_hand(words_, text), matches(regex_, text)) << testing::PrintToString(text);
  }
}

TEST_P(Splitter, CutsRandomTextAsItsExpressionDoes) {
  // Characters where the alternatives of the expressions meet.
  const std::vector<std::string> pieces = {"a",
                                           "Z",
                                           "\xC3\xA9",
                                           "\xE5\xA4\xA9",
                                           "s",
                                           "re",
                                           "LL",
                                           "\xC5\xBF",
                                           "'",
                                           "'",
                                           "1",
                                           "23",
                                           "\xD9\xA3",
                                           "\xC2\xBD",
                                           " ",
                                           " ",
                                           "\t",
                                           "\n",
                                           "\r",
                                           "\xC2\xA0",
                                           "\xE3\x80\x80",
                                           "\xE2\x80\xA8",
                                           "\xE1\xA0\x8E",
                                           ".",
                                           "!?",
                                           "_",
                                           "\xE2\x82\xAC",
                                           "\xCC\x81",
                                           "\xF0\x9F\x98\x80",
                                           "\xEF\xBF\xBD",
                                           std::string(1, '\0')};
  for (int run = 0; run < 20'000; ++run) {
    fuzz::Mutator random(static_cast<uint64_t>(run));
    std::string text;
    for (uint64_t i = 1 + random.below(10); i > 0; --i) text += pieces[random.below(pieces.size())];
    ASSERT_EQ(words_by_hand(words_, text), matches(regex_, text)) << testing::PrintToString(text);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Splitter,
                         testing::Values(kGpt2Pattern, kLlama3Pattern, kQwen2Pattern));

TEST(Splitter, UnknownExpressionsHaveNone) { EXPECT_EQ(word_splitter_for("\\s+"), nullptr); }

TEST(Regex, SpacesAreUnicodesWhiteSpace) {
  EXPECT_THAT(matches(Regex(R"(\s)"), "\xE1\xA0\x8E\xE2\x80\x8B\xC2\x85\xC2\xA0"),
              ElementsAre("\xC2\x85", "\xC2\xA0"));
  EXPECT_THAT(matches(Regex(R"([\S])"), "\xE1\xA0\x8E "), ElementsAre("\xE1\xA0\x8E"));
}

TEST(Regex, WordsHoldMarks) {
  EXPECT_THAT(matches(Regex(R"(\w+)"), "e\xCC\x81_1-\xE2\x85\xA7"),
              ElementsAre("e\xCC\x81_1", "\xE2\x85\xA7"));
}

TEST(Regex, PropertiesKnowUnicode16) {
  const std::string garay = "\xF0\x90\xB5\x8A";      // U+10D4A, a letter since Unicode 16
  const std::string ideograph = "\xF0\xB1\x8D\x90";  // U+31350, since Unicode 15
  EXPECT_THAT(matches(Regex(R"(\p{L}+)"), garay + ideograph), ElementsAre(garay + ideograph));
  EXPECT_THAT(matches(Regex(R"([^\s\p{L}]+)"), garay + "."), ElementsAre("."));
  EXPECT_THAT(matches(Regex(R"(\w+)"), garay + "_."), ElementsAre(garay + "_"));
  EXPECT_THAT(matches(Regex(R"([\d]\D)"), "\xF0\x90\xB5\x80x"), ElementsAre("\xF0\x90\xB5\x80x"));
  EXPECT_EQ(words_by_hand(gpt2_word_end, garay + "a.").size(), 2u);
}

TEST(Regex, RubysSyntaxIsKept) {
  EXPECT_THAT(matches(Regex(R"(^\w$)"), "a\nb"), ElementsAre("a", "b"));
  EXPECT_THAT(matches(Regex(R"((?m).+)"), "a\nb"), ElementsAre("a\nb"));
  EXPECT_THAT(matches(Regex(R"(a{1,2}+)"), "aaaaa"), ElementsAre("aaaaa"));
  EXPECT_THAT(matches(Regex(R"((?:ab){,2})"), "ababab"), ElementsAre("abab", "ab"));
  EXPECT_THAT(matches(Regex(R"(\h+)"), "xbeefx"), ElementsAre("beef"));
  EXPECT_THAT(matches(Regex(R"(\u0041\x{42}+)"), "ABB"), ElementsAre("ABB"));
  EXPECT_THAT(matches(Regex(R"([]a]+)"), "]a]"), ElementsAre("]a]"));
}

TEST(Regex, EmptyMatchesStandBetweenCharactersOnce) {
  EXPECT_EQ(matches(Regex(""), "\xC3\xA9x").size(), 3u);
  EXPECT_THAT(matches(Regex("x*"), "axb"), ElementsAre("", "x", ""));
}

TEST(Regex, WhatCannotBeTranslatedIsRefusedByName) {
  for (const char* pattern : {"[a-z&&[^b]]", "[[a]b]", R"([\W])", "(", R"(\u12)", "[[:alpha"}) {
    try {
      const Regex regex{pattern};
      ADD_FAILURE() << pattern;
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(pattern));
    }
  }
}

TEST(Regex, ARunawayMatchIsAnError) {
  EXPECT_THROW(Regex("(a+)+[bd]").find(std::string(200, 'a'), 0), UserError);
}

}  // namespace
}  // namespace millrace::text
