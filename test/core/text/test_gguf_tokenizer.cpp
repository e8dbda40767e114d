// The tokenizers inside GGUF files: the same golden set, from the arrays that such files hold.
#include "core/text/gguf_tokenizer.hpp"

#include <gmock/gmock.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "core/text/detokenizer.hpp"
#include "core/text/tokenizer.hpp"
#include "core/text/unicode.hpp"
#include "core/weights/gguf.hpp"
#include "core/weights/gguf_tokenizer_data.hpp"
#include "kernels/base/error.hpp"
#include "test/core/text/golden.hpp"

namespace millrace::text {
namespace {

void expect_golden(const Tokenizer& tokenizer, const std::string& name) {
  const std::vector<std::string> strings = golden_strings();
  std::vector<std::string> valid(strings.size());
  for (std::size_t i = 0; i < strings.size(); ++i) append_replacing_invalid(valid[i], strings[i]);
  const std::vector<GoldenRecord> records = golden_records(name, valid);
  for (std::size_t i = 0; i < strings.size() && !testing::Test::HasFailure(); ++i) {
    EXPECT_EQ(tokenizer.encode(strings[i], true), records[i].ids)
        << testing::PrintToString(valid[i]);
    EXPECT_EQ(tokenizer.encode(strings[i], false), records[i].plain_ids);
    EXPECT_EQ(tokenizer.decode(records[i].ids, false), records[i].kept);
    EXPECT_EQ(tokenizer.decode(records[i].ids, true), records[i].skipped);
    Detokenizer detokenizer(tokenizer, true);
    std::string text;
    for (const int32_t id : records[i].ids) text += detokenizer.push(id);
    EXPECT_EQ(text + detokenizer.finish(), records[i].skipped);
  }
}

// The arrays that a GGUF file of a byte-level tokenizer.json would hold.
GgufTokenizerData gpt2_kind(const std::string& fixture, const std::string& pre) {
  const auto json = nlohmann::json::parse(file_bytes(golden_folder() / fixture / "tokenizer.json"));
  GgufTokenizerData data;
  data.model = "gpt2";
  data.pre = pre;
  for (const auto& [name, id] : json["model"]["vocab"].items()) {
    if (data.tokens.size() <= id) data.tokens.resize(id.get<std::size_t>() + 1);
    data.tokens[id] = name;
  }
  for (const auto& token : json["added_tokens"]) {
    if (data.tokens.size() <= token["id"]) data.tokens.resize(token["id"].get<std::size_t>() + 1);
    data.tokens[token["id"]] = token["content"];
  }
  data.token_types.assign(data.tokens.size(), 1);
  for (const auto& token : json["added_tokens"])
    data.token_types[token["id"]] = token["special"] ? 3 : 4;
  for (const auto& merge : json["model"]["merges"]) {
    data.merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  return data;
}

TEST(GgufTokenizer, Gpt2WordsEqualThoseOfTokenizerJson) {
  expect_golden(make_tokenizer(gpt2_kind("gpt2", "gpt-2")), "gpt2");
}

TEST(GgufTokenizer, SmollmWordsEqualThoseOfTokenizerJson) {
  expect_golden(make_tokenizer(gpt2_kind("smollm", "smollm")), "smollm");
}

TEST(GgufTokenizer, Llama3WordsEqualThoseOfTokenizerJson) {
  GgufTokenizerData data = gpt2_kind("llama3", "llama-bpe");
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    if (data.tokens[id] == "<|begin|>") data.bos_id = static_cast<int32_t>(id);
  }
  expect_golden(make_tokenizer(data), "llama3");  // adds BOS although the file does not say so
}

TEST(GgufTokenizer, Gpt4oWordsEqualThoseOfTokenizerJson) {
  expect_golden(make_tokenizer(gpt2_kind("o200k", "gpt-4o")), "o200k");
}

TEST(GgufTokenizer, DeepSeekWordsEqualThoseOfTokenizerJson) {
  expect_golden(make_tokenizer(gpt2_kind("deepseek", "deepseek-coder")), "deepseek");
}

TEST(GgufTokenizer, SentencePieceScoresMergeAsInTransformers) {
  const GgufHeader header = read_gguf_header(golden_folder() / "spm.gguf");
  expect_golden(make_tokenizer(read_gguf_tokenizer(header)), "spm");
}

TEST(GgufTokenizer, SmolLM2EqualsHuggingFaceOnEveryString) {
  const char* path = std::getenv("MILLRACE_SMOLLM2");
  if (path == nullptr || *path == '\0') {
    GTEST_SKIP() << "MILLRACE_SMOLLM2 does not name SmolLM2's GGUF file";
  }
  const Tokenizer tokenizer = make_tokenizer(read_gguf_tokenizer(read_gguf_header(path)));
  EXPECT_EQ(tokenizer.vocab_size(), 49152);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  expect_golden(tokenizer, "smollm2");
}

TEST(GgufTokenizer, EveryPreNameCutsWithoutLosingText) {
  GgufTokenizerData data = gpt2_kind("gpt2", "");
  const std::vector<std::string> strings = golden_strings();
  for (const char* pre : {"",          "default",      "gpt-2",          "llama-bpe",   "smaug-bpe",
                          "qwen2",     "qwen35",       "smollm",         "starcoder",   "refact",
                          "command-r", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon",
                          "olmo",      "stablelm2",    "tekken",         "gpt-4o",      "bloom",
                          "viking"}) {
    data.pre = pre;
    const Tokenizer tokenizer = make_tokenizer(data);
    for (std::size_t i = 0; i < strings.size(); i += 7) {
      std::string valid;
      append_replacing_invalid(valid, strings[i]);
      ASSERT_EQ(tokenizer.decode(tokenizer.encode(strings[i], false), false), valid) << pre;
    }
  }
}

std::string error_of(const GgufTokenizerData& data) {
  try {
    make_tokenizer(data);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(GgufTokenizer, ErrorsNameWhatIsWrong) {
  const GgufTokenizerData good = gpt2_kind("gpt2", "gpt-2");
  GgufTokenizerData data = good;
  data.pre = "no-such-words";
  EXPECT_THAT(error_of(data), testing::HasSubstr("\"no-such-words\""));
  data = good;
  data.model = "bert";
  EXPECT_THAT(error_of(data), testing::HasSubstr("\"bert\""));
  data = good;
  data.eos_id = 1'000'000;
  EXPECT_THAT(error_of(data), testing::HasSubstr("1000000"));
  data = good;
  data.merges.push_back("not-a-token x");
  EXPECT_THAT(error_of(data), testing::HasSubstr("not-a-token"));
  data = good;
  data.token_types.pop_back();
  EXPECT_THAT(error_of(data), testing::HasSubstr("token types"));
  data = good;
  data.model = "llama";  // without scores
  EXPECT_THAT(error_of(data), testing::HasSubstr("scores"));
  EXPECT_THAT(error_of(GgufTokenizerData{}), testing::HasSubstr("no tokens"));
}

}  // namespace
}  // namespace millrace::text
