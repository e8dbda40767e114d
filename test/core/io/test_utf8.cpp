#include "core/io/utf8.hpp"

#include <gtest/gtest.h>

namespace millrace {
namespace {

TEST(Utf8, FindsTheFirstBrokenByte) {
  EXPECT_EQ(valid_utf8_prefix(""), 0U);
  EXPECT_EQ(valid_utf8_prefix("plain \xD0\xB4 \xE6\x97\xA5 \xF0\x9F\x99\x82"), 17U);
  EXPECT_EQ(valid_utf8_prefix("ab\xFF"), 2U);
  EXPECT_EQ(valid_utf8_prefix("ab\xE6\x97"), 2U) << "cut short";
  EXPECT_EQ(valid_utf8_prefix("\xC0\xAF"), 0U) << "overlong";
  EXPECT_EQ(valid_utf8_prefix("\xED\xA0\x80"), 0U) << "a surrogate";
  EXPECT_EQ(valid_utf8_prefix("\xF4\x90\x80\x80"), 0U) << "above U+10FFFF";
}

TEST(Utf8, ReplacesWhatPythonReplaces) {
  // bytes.decode("utf-8", errors="replace") of the same bytes.
  EXPECT_EQ(replace_invalid_utf8("a\xFF\xFE"
                                 "b"),
            "a\uFFFD\uFFFD"
            "b");
  EXPECT_EQ(replace_invalid_utf8("\xE6\x97x"), "\uFFFDx");
  EXPECT_EQ(replace_invalid_utf8("\xF0\x9F\x99"), "\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF"), "\uFFFD\uFFFD");
}

}  // namespace
}  // namespace millrace
