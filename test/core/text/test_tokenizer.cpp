// What the golden set does not show: errors, folders, threads, broken UTF-8 and decoder corners.
#include "core/text/tokenizer.hpp"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "core/text/decoder.hpp"
#include "core/text/detokenizer.hpp"
#include "core/text/regex.hpp"
#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"
#include "test/core/text/golden.hpp"

namespace millrace::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;

// A tokenizer.json around these parts, each as JSON.
std::string tokenizer_json(const std::string& model, const std::string& rest = "") {
  return R"({"version":"1.0","model":{"type":"BPE",)" + model + "}" + rest + "}";
}

const std::string kAbc = R"("vocab":{"a":0,"b":1,"ab":2,"<unk>":3},"merges":[["a","b"]])";

std::string error_of(const std::string& json) {
  try {
    parse_tokenizer(json, "", "T");
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Tokenizer, UnsupportedKindsAreNamed) {
  EXPECT_THAT(error_of(R"({"model":{"type":"Unigram"}})"), HasSubstr("\"Unigram\""));
  EXPECT_THAT(error_of(R"({"model":{"type":"WordPiece"}})"), HasSubstr("\"WordPiece\""));
  for (const char* part : {"normalizer", "pre_tokenizer", "post_processor", "decoder"}) {
    const std::string error =
        error_of(tokenizer_json(kAbc, std::string(",\"") + part + R"(":{"type":"Odd"})"));
    EXPECT_THAT(error, HasSubstr("\"Odd\"")) << part;
    EXPECT_THAT(error, HasSubstr(part));
  }
  EXPECT_THAT(
      error_of(tokenizer_json(
          kAbc,
          R"(,"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Precompiled"}]})")),
      HasSubstr("\"Precompiled\""));
}

TEST(Tokenizer, BrokenFilesAreErrorsThatNameThePlace) {
  EXPECT_THAT(error_of("{"), HasSubstr("T is not valid JSON"));
  EXPECT_THAT(error_of("[]"), HasSubstr("must be an object"));
  EXPECT_THAT(error_of("{}"), HasSubstr("\"model\""));
  EXPECT_THAT(error_of(tokenizer_json(R"("vocab":{"a":-1},"merges":[])")), HasSubstr("-1"));
  EXPECT_THAT(error_of(tokenizer_json(R"("vocab":{"a":4294967296},"merges":[])")),
              HasSubstr("4294967296"));
  EXPECT_THAT(error_of(tokenizer_json(R"("vocab":{"a":0},"merges":[["a","b"]])")),
              HasSubstr("\"b\""));
  EXPECT_THAT(error_of(tokenizer_json(R"("vocab":{"a":0},"merges":["a b c"])")),
              HasSubstr("a b c"));
  EXPECT_THAT(error_of(tokenizer_json(kAbc + R"(,"dropout":0.1)")), HasSubstr("dropout 0.1"));
  EXPECT_THAT(error_of(tokenizer_json(kAbc + R"(,"unk_token":"[UNK]")")), HasSubstr("[UNK]"));
  EXPECT_THAT(
      error_of(tokenizer_json(
          kAbc,
          R"(,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated","invert":false})")),
      HasSubstr("\"(\""));
}

TEST(Tokenizer, MergesAreReadInBothSpellings) {
  const Tokenizer pairs = parse_tokenizer(tokenizer_json(kAbc), "", "T");
  const Tokenizer lines =
      parse_tokenizer(tokenizer_json(R"("vocab":{"a":0,"b":1,"ab":2},"merges":["a b"])"), "", "T");
  EXPECT_THAT(pairs.encode("abba", false), ElementsAre(2, 1, 0));
  EXPECT_THAT(lines.encode("abba", false), ElementsAre(2, 1, 0));
}

TEST(Tokenizer, AMissingFileIsNamed) {
  try {
    load_tokenizer("/no/such/folder");
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("/no/such/folder"));
  }
}

TEST(Tokenizer, IllFormedUtf8IsReadAsReplacementCharacters) {
  const Tokenizer tokenizer = load_tokenizer(golden_folder() / "gpt2");
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\xFF", "\uFFFD"},
      {"a\xE2\x82", "a\uFFFD"},  // cut short: one for the part
      {"\xE2\x28\xA1", "\uFFFD(\uFFFD"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},  // a surrogate: no part of it is well-formed
      {"\xF0\x9F\x98", "\uFFFD"},
      {"\xC0\x80", "\uFFFD\uFFFD"},  // overlong
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xF0\x9F\x98\x80", "\U0001F600"}};
  for (const auto& [bytes, text] : cases) {
    EXPECT_EQ(tokenizer.encode(bytes, false), tokenizer.encode(text, false))
        << testing::PrintToString(bytes);
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(bytes, false), false), text);
  }
}

TEST(Tokenizer, NamesIdsAndBytesOfTokens) {
  const Tokenizer tokenizer = load_tokenizer(golden_folder() / "metaspace_first");
  EXPECT_EQ(tokenizer.token_id("<s>"), 1);
  EXPECT_EQ(tokenizer.token_id("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer.token_name(1), "<s>");
  EXPECT_EQ(tokenizer.token_name(-1), std::nullopt);
  EXPECT_EQ(tokenizer.token_name(1'000'000), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(1));
  EXPECT_FALSE(tokenizer.is_special(*tokenizer.token_id("<0xE2>")));
  EXPECT_EQ(tokenizer.token_bytes(*tokenizer.token_id("<0xE2>")), "\xE2");
  EXPECT_EQ(tokenizer.token_bytes(*tokenizer.token_id("\u2581the")), " the");
  EXPECT_EQ(tokenizer.token_bytes(-5), "");
  const Tokenizer bytes = load_tokenizer(golden_folder() / "gpt2");
  EXPECT_EQ(bytes.token_bytes(*bytes.token_id("\u0120the")), " the");
  EXPECT_EQ(bytes.token_bytes(*bytes.token_id("\u00E2")), "\xE2");
}

TEST(Tokenizer, BosAndEosComeFromTheConfig) {
  const std::string json = tokenizer_json(kAbc);
  const Tokenizer tokenizer = parse_tokenizer(
      json, R"({"bos_token":{"content":"a"},"eos_token":"b","pad_token":null})", "T");
  EXPECT_EQ(tokenizer.bos_id(), 0);
  EXPECT_EQ(tokenizer.eos_id(), 1);
  EXPECT_EQ(parse_tokenizer(json, "", "T").eos_id(), std::nullopt);
  EXPECT_EQ(tokenizer.vocab_size(), 4);
}

TEST(Tokenizer, ThreadsShareOne) {
  const Tokenizer tokenizer = load_tokenizer(golden_folder() / "llama2");
  const std::vector<std::string> strings = golden_strings();
  std::vector<Ids> expected;
  for (const std::string& text : strings) expected.push_back(tokenizer.encode(text, true));
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < strings.size(); ++i) {
        const std::size_t at = (i + 500 * t) % strings.size();
        wrong[t] += tokenizer.encode(strings[at], true) != expected[at];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

TEST(Tokenizer, AMovedTokenizerStillServesItsDetokenizer) {
  Tokenizer first = load_tokenizer(golden_folder() / "gpt2");
  const Ids ids = first.encode("moved", false);
  Detokenizer detokenizer(first, false);
  const Tokenizer second = std::move(first);
  std::string text;
  for (const int32_t id : ids) text += detokenizer.push(id);
  EXPECT_EQ(text + detokenizer.finish(), "moved");
}

TEST(Detokenizer, HoldsACharacterBackUntilItIsWhole) {
  const Tokenizer tokenizer = load_tokenizer(golden_folder() / "gpt2");
  const auto byte = [&](char32_t name) {
    std::string token;
    append_utf8(token, name);
    return *tokenizer.token_id(token);
  };
  Detokenizer detokenizer(tokenizer, false);  // U+20AC is E2 82 AC
  EXPECT_EQ(detokenizer.push(byte(0xE2)), "");
  EXPECT_EQ(detokenizer.push(byte(0x124)), "");  // 82
  EXPECT_EQ(detokenizer.push(byte(0xAC)), "\u20AC");
  EXPECT_EQ(detokenizer.push(byte(0xE2)), "");
  EXPECT_EQ(detokenizer.push(byte('!')), "\uFFFD!");
  EXPECT_EQ(detokenizer.push(byte(0xF0)), "");
  EXPECT_EQ(detokenizer.finish(), "\uFFFD");
}

std::string decoded(const std::vector<DecoderStep>& steps, const std::vector<std::string>& tokens) {
  DecodeStream stream(steps);
  std::string text;
  for (const std::string& token : tokens) stream.push(token, text);
  stream.finish(text);
  return text;
}

TEST(Decoder, StripWorksOnEachTokenAndAfterFuseOnTheWhole) {
  const StripDecoder strip{"x", 2, 1};
  EXPECT_EQ(decoded({strip}, {"xxxax", "xb", "cxx"}), "xabcx");
  EXPECT_EQ(decoded({Fuse{}, strip}, {"x", "x", "xa", "x", "x"}), "xax");
  EXPECT_EQ(decoded({Fuse{}, strip}, {"ax", "b"}), "axb");
  EXPECT_EQ(decoded({Fuse{}, StripDecoder{" ", 1, 0}}, {"a", " ", " b"}), "a  b");
}

TEST(Decoder, ReplaceAfterFuseFindsMatchesAcrossTokens) {
  const Replace replace{"aab", nullptr, "-"};
  EXPECT_EQ(decoded({replace}, {"aa", "b", "aab"}), "aab-");
  EXPECT_EQ(decoded({Fuse{}, replace}, {"a", "a", "a", "b", "aa", "bc"}), "a--c");
  EXPECT_EQ(decoded({Fuse{}, replace}, {"x", "a", "a"}), "xaa");
  const Replace digits{"", std::make_shared<const Regex>("[0-9]+"), "#"};
  EXPECT_EQ(decoded({Fuse{}, digits}, {"1", "2", "a", "3"}), "#a#");
}

TEST(Decoder, ARunOfByteTokensThatIsNotUtf8IsReplacedByteByByte) {
  EXPECT_EQ(decoded({ByteFallbackDecoder{}}, {"a", "<0xC3>", "<0xA9>", "b"}), "a\u00E9b");
  EXPECT_EQ(decoded({ByteFallbackDecoder{}}, {"<0xC3>", "<0xA9>", "<0xFF>"}), "\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(decoded({ByteFallbackDecoder{}}, {"<0xZZ>", "<0x4>"}), "<0xZZ><0x4>");
}

TEST(Decoder, SuffixesBecomeSpacesButTheLast) {
  EXPECT_EQ(decoded({SuffixDecoder{"</w>"}}, {"a</w>", "b", "c</w>"}), "a bc");
}

}  // namespace
}  // namespace millrace::text
