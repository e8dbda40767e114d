// Token ids and text equal Hugging Face's on every string of the golden set, for every kind of
// tokenizer that the set holds; incremental text equals whole text.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/text/detokenizer.hpp"
#include "core/text/tokenizer.hpp"
#include "core/text/unicode.hpp"
#include "test/core/text/golden.hpp"
#include "test/temporary_folder.hpp"

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

TEST(VocabAndMerges, FilesOfGpt2sKindGiveTheIdsOfTokenizerJson) {
  const auto json = nlohmann::json::parse(file_bytes(golden_folder() / "gpt2" / "tokenizer.json"));
  const TemporaryFolder folder;
  folder.write("vocab.json", json["model"]["vocab"].dump());
  std::ofstream merges(folder / "merges.txt");
  merges << "#version: 0.2\n";
  for (const auto& merge : json["model"]["merges"]) {
    merges << merge[0].get<std::string>() << " " << merge[1].get<std::string>() << "\n";
  }
  merges.close();
  folder.write("tokenizer_config.json",
               R"({"bos_token":"<|endoftext|>","eos_token":"<|endoftext|>","add_bos_token":true})");
  const Tokenizer tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer.eos_id(), 0);
  const std::vector<std::string> strings = valid_strings();
  const std::vector<GoldenRecord> records = golden_records("gpt2", strings);
  for (std::size_t i = 0; i < strings.size() && !HasFailure(); ++i) {
    EXPECT_EQ(tokenizer.encode(strings[i], false), records[i].plain_ids);
    EXPECT_EQ(tokenizer.decode(records[i].ids, true), records[i].skipped);
  }
  EXPECT_EQ(tokenizer.encode("", true), std::vector<int32_t>{0});
}

}  // namespace
}  // namespace millrace::text
