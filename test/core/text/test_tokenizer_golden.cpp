// Token ids and text equal Hugging Face's on every string of the golden set, for every kind of
// tokenizer that the set holds; incremental text equals whole text.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/text/detokenizer.hpp"
#include "core/text/tokenizer.hpp"
#include "core/text/unicode.hpp"
#include "test/core/text/golden.hpp"

namespace millrace::text {
namespace {

std::string replaced(const std::string& bytes) {
  std::string valid;
  append_replacing_invalid(valid, bytes);
  return valid;
}

std::vector<std::string> valid_strings() {
  std::vector<std::string> strings = golden_strings();
  std::transform(strings.begin(), strings.end(), strings.begin(), replaced);
  return strings;
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip) {
  Detokenizer detokenizer(tokenizer, skip);
  std::string text;
  for (const int32_t id : ids) {
    const std::string piece = detokenizer.push(id);
    EXPECT_TRUE(is_valid_utf8(piece)) << "a piece ends inside a character";
    text += piece;
  }
  const std::string rest = detokenizer.finish();
  EXPECT_TRUE(is_valid_utf8(rest));
  return text + rest;
}

class Golden : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    bytes_ = golden_strings();
    valid_ = valid_strings();
    records_ = golden_records(GetParam(), valid_);
  }
  const Tokenizer tokenizer_ = load_tokenizer(golden_folder() / GetParam());
  std::vector<std::string> bytes_, valid_;
  std::vector<GoldenRecord> records_;
};

TEST_P(Golden, IdsEqualHuggingFacesOnEveryString) {
  ASSERT_GE(bytes_.size(), 2000u);
  for (std::size_t i = 0; i < bytes_.size(); ++i) {
    EXPECT_EQ(tokenizer_.encode(bytes_[i], true), records_[i].ids)
        << testing::PrintToString(valid_[i]);
    EXPECT_EQ(tokenizer_.encode(bytes_[i], false), records_[i].plain_ids)
        << testing::PrintToString(valid_[i]);
    if (HasFailure()) break;
  }
}

TEST_P(Golden, TextEqualsHuggingFacesOnEveryString) {
  for (std::size_t i = 0; i < bytes_.size(); ++i) {
    EXPECT_EQ(tokenizer_.decode(records_[i].ids, false), records_[i].kept);
    EXPECT_EQ(tokenizer_.decode(records_[i].ids, true), records_[i].skipped);
    if (HasFailure()) {
      ADD_FAILURE() << testing::PrintToString(valid_[i]);
      break;
    }
  }
}

TEST_P(Golden, PushedPiecesAreWholeCharactersAndConcatenateToTheText) {
  for (std::size_t i = 0; i < bytes_.size() && !HasFailure(); ++i) {
    EXPECT_EQ(streamed(tokenizer_, records_[i].ids, false), records_[i].kept);
    EXPECT_EQ(streamed(tokenizer_, records_[i].ids, true), records_[i].skipped);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Golden,
                         testing::Values("gpt2", "roberta", "llama3", "qwen2", "o200k", "smollm",
                                         "deepseek", "clip", "llama2", "metaspace_always",
                                         "metaspace_first", "partial_fallback", "wordpiece_like",
                                         "nfd_strip_first", "added_tokens", "behaviors"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace millrace::text
