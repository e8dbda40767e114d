// Broken tokenizer.json files: reading one gives a tokenizer or a UserError, never a crash. The
// sanitizers of the cpu-asan preset watch; MILLRACE_FUZZ_RUNS=100000 is the long run.
#include <gtest/gtest.h>

#include <cctype>

#include "core/text/detokenizer.hpp"
#include "core/text/gguf_tokenizer.hpp"
#include "core/text/tokenizer.hpp"
#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"
#include "test/core/text/golden.hpp"
#include "test/fuzz/mutate.hpp"

namespace millrace::text {
namespace {

const std::vector<std::string>& words() {
  static const std::vector<std::string> list = {"null",
                                                "true",
                                                "-1",
                                                "0",
                                                "3",
                                                "99999999999",
                                                "1.5",
                                                "[]",
                                                "{}",
                                                "\"\"",
                                                "\"a\"",
                                                "\"\xE2\x96\x81\"",
                                                "\"Ġ\"",
                                                "\"<unk>\"",
                                                "\"<0x41>\"",
                                                "\"A\"",
                                                "\"B\"",
                                                "\"Sequence\"",
                                                "\"BPE\"",
                                                "\"Unigram\"",
                                                "\"ByteLevel\"",
                                                "\"Split\"",
                                                "\"Metaspace\"",
                                                "\"Digits\"",
                                                "\"Replace\"",
                                                "\"Prepend\"",
                                                "\"Strip\"",
                                                "\"NFC\"",
                                                "\"NFKD\"",
                                                "\"Lowercase\"",
                                                "\"StripAccents\"",
                                                "\"ByteFallback\"",
                                                "\"Fuse\"",
                                                "\"BPEDecoder\"",
                                                "\"TemplateProcessing\"",
                                                "\"RobertaProcessing\"",
                                                "\"Whitespace\"",
                                                "\"Punctuation\"",
                                                "\"Isolated\"",
                                                "\"Removed\"",
                                                "\"MergedWithNext\"",
                                                "\"Contiguous\"",
                                                "\"first\"",
                                                "\"never\"",
                                                "{\"Regex\":\"\"}",
                                                "{\"Regex\":\"(a*)*b\"}",
                                                "{\"Regex\":\"\\\\s+(?!\\\\S)|.\"}",
                                                "{\"Regex\":\"(?=a)\"}",
                                                "{\"Regex\":\"[[a]&&b]\"}",
                                                "{\"Regex\":\"x{1,3}+\"}",
                                                "{\"String\":\" \"}",
                                                "{\"String\":\"\"}"};
  return list;
}

// Replaces one value of a JSON text by another, so that the text often stays JSON.
std::string replace_value(std::string json, fuzz::Mutator& mutator) {
  // Behind the vocabulary is where the steps are; both are worth breaking.
  const std::size_t at = mutator.below(json.size());
  const std::size_t colon = json.find(':', at);
  if (colon == std::string::npos || colon + 1 >= json.size()) return json;
  std::size_t end = colon + 1;
  if (json[end] == '"') {
    for (++end; end < json.size() && json[end] != '"'; ++end) end += json[end] == '\\' ? 1 : 0;
    ++end;
  } else {
    while (end < json.size() && json[end] != ',' && json[end] != '}' && json[end] != ']') ++end;
  }
  end = std::min(end, json.size());
  // Mostly by one of the same kind: a wrong kind is refused before it can do harm.
  const auto kind = [](char c) {
    return c == 't' || c == 'f' ? 'b' : c == '-' || c <= '9' ? c == '"' ? '"' : '0' : c;
  };
  std::string word;
  do {
    word = words()[mutator.below(words().size())];
  } while (kind(word[0]) != kind(json[colon + 1]) && mutator.below(20) != 0);
  return json.replace(colon + 1, end - colon - 1, word);
}

// A fixture without most of its vocabulary: mutations then hit what matters, and fast.
std::string shortened(const std::string& json) {
  const std::size_t vocab = json.find("\"vocab\":{");
  const std::size_t merges = json.find("\"merges\":[", vocab);
  std::string head = json.substr(0, vocab);
  std::string kept = json.substr(vocab, merges - vocab);
  const std::size_t cut = kept.find(',', std::min<std::size_t>(kept.size(), 3000));
  if (cut != std::string::npos) kept = kept.substr(0, cut) + "},";
  return head + kept + "\"merges\":[]}}";
}

void use(const Tokenizer& tokenizer, fuzz::Mutator& mutator,
         const std::vector<std::string>& strings) {
  for (int i = 0; i < 3; ++i) {
    const std::vector<int32_t> ids =
        tokenizer.encode(strings[mutator.below(strings.size())].substr(0, 60), i == 0);
    std::vector<int32_t> mixed = ids;
    for (int32_t& id : mixed) {
      if (mutator.below(3) == 0) id = static_cast<int32_t>(mutator.below(1200)) - 10;
    }
    Detokenizer detokenizer(tokenizer, i == 1);
    std::string text;
    for (const int32_t id : mixed) {
      text += detokenizer.push(id);
      ASSERT_TRUE(is_valid_utf8(text));
    }
    text += detokenizer.finish();
    ASSERT_EQ(text, tokenizer.decode(mixed, i == 1));
    for (const int32_t id : mixed) tokenizer.token_bytes(id);
  }
}

TEST(TokenizerFuzz, BrokenTokenizerJsonNeverCrashes) {
  const std::vector<std::string> strings = golden_strings();
  std::vector<std::string> seeds;
  for (const char* name : {"gpt2", "roberta", "llama3", "clip", "llama2", "metaspace_first",
                           "partial_fallback", "wordpiece_like", "added_tokens", "behaviors"}) {
    const std::string json = file_bytes(golden_folder() / name / "tokenizer.json");
    seeds.push_back(json);
    seeds.push_back(shortened(json));
    EXPECT_NO_THROW(parse_tokenizer(seeds.back(), "", name));
  }
  int accepted = 0;
  const int runs = fuzz::runs(2'000);
  for (int run = 0; run < runs; ++run) {
    fuzz::Mutator mutator(static_cast<uint64_t>(run), words());
    std::string json = seeds[mutator.below(seeds.size())];
    if (run % 4 == 0) {
      json = mutator.mutate(json);
    } else {
      for (uint64_t i = 1 + mutator.below(3); i > 0; --i) json = replace_value(json, mutator);
    }
    SCOPED_TRACE("run " + std::to_string(run));
    try {
      const Tokenizer tokenizer = parse_tokenizer(json, "", "tokenizer.json");
      ++accepted;
      use(tokenizer, mutator, strings);
    } catch (const UserError& error) {
      ASSERT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << error.what();
    }
    if (HasFatalFailure()) return;
  }
  // A fuzzer whose inputs are all refused, or all accepted, tests nothing.
  EXPECT_GT(accepted, runs / 20);
  EXPECT_LT(accepted, runs);
}

TEST(TokenizerFuzz, BrokenGgufVocabulariesNeverCrash) {
  const std::vector<std::string> strings = golden_strings();
  const int runs = fuzz::runs(2'000) / 4;
  for (int run = 0; run < runs; ++run) {
    fuzz::Mutator mutator(static_cast<uint64_t>(run) + (uint64_t{1} << 32));
    GgufTokenizerData data;
    data.model = mutator.below(2) == 0 ? "gpt2" : "llama";
    data.pre = mutator.below(2) == 0 ? "llama-bpe" : "smollm";
    data.tokens = {"<unk>",
                   "<s>",
                   "</s>",
                   "<0x41>",
                   "\xE2\x96\x81",
                   "a",
                   "b",
                   "ab",
                   "\xE2\x96\x81"
                   "ab",
                   "Ġ",
                   "Ġa",
                   "  ",
                   "x y"};
    data.scores.assign(data.tokens.size(), -1);
    data.token_types.assign(data.tokens.size(), 1);
    data.merges = {"a b", "Ġ a"};
    for (uint64_t i = mutator.below(4); i > 0; --i) {
      const std::size_t at = mutator.below(data.tokens.size());
      switch (mutator.below(7)) {
        case 0:
          data.tokens[at] = mutator.mutate(data.tokens[at]);
          break;
        case 1:
          data.scores[at] = static_cast<float>(mutator.below(100)) - 50;
          break;
        case 2:
          data.token_types[at] = static_cast<int32_t>(mutator.below(9)) - 1;
          break;
        case 3:
          data.merges[mutator.below(2)] = mutator.mutate("a b");
          break;
        case 4:
          data.bos_id = static_cast<int32_t>(mutator.below(20)) - 2;
          break;
        case 5:
          data.unk_id = static_cast<int32_t>(mutator.below(20)) - 2;
          break;
        default:
          data.tokens[at].clear();
          break;
      }
    }
    SCOPED_TRACE("run " + std::to_string(run));
    try {
      use(make_tokenizer(data), mutator, strings);
    } catch (const UserError&) {
    }
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace millrace::text
