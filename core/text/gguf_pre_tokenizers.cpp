// The expressions by name. They are those of the original checkpoints' tokenizer.json.
#include "core/text/gguf_pre_tokenizers.hpp"

#include <map>

#include "core/text/unicode.hpp"
#include "core/text/word_splitter.hpp"
#include "kernels/base/error.hpp"

namespace millrace::text {
namespace {

// GPT-4o's, with and without the contractions at the end of a word and digits in threes.
constexpr std::string_view kGpt4oPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekkenPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepSeek3Pattern =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Letters of the scripts with upper and lower case.
constexpr std::string_view kDeepSeekLetters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚ)"
    R"(Ḁ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1F7D}ᾀ-ᾴᾶ-ᾼ\x{1FBE}ῂ-ῄῆ-ῌῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄ)"
    R"(Ⰰ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
constexpr std::string_view kDeepSeekCjk = "[一-龥ࠀ-一가-퟿]+";
constexpr std::string_view kBloomPattern = R"( ?[^(\s|.,!?…。，、।۔،)]+)";

std::map<std::string_view, GgufPreTokenizer> make_table() {
  std::map<std::string_view, GgufPreTokenizer> table;
  const auto put = [&](std::initializer_list<std::string_view> names, const GgufPreTokenizer& pre) {
    for (const std::string_view name : names) table.emplace(name, pre);
  };
  put({"", "default"},
      {.expressions = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)", "[0-9][0-9][0-9]"}});
  put({"gpt-2", "phi-2", "roberta-bpe", "mpt", "olmo", "jais", "trillion", "gigachat",
       "granite-docling"},
      {.gpt2_words = true});
  put({"starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum"},
      {.expressions = {R"(\p{N})"}, .gpt2_words = true});
  put({"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"},
      {.expressions = {kLlama3Pattern}, .ignore_merges = true, .adds_bos = true});
  put({"smaug-bpe", "dbrx", "glm4", "chatglm-bpe"}, {.expressions = {kLlama3Pattern}});
  put({"qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan", "grok-2"},
      {.expressions = {kQwen2Pattern}});
  put({"qwen35"}, {.expressions = {kQwen35Pattern}});
  put({"tekken"}, {.expressions = {kTekkenPattern}, .ignore_merges = true, .adds_bos = true});
  put({"gpt-4o", "llama4", "kanana2", "o200k"}, {.expressions = {kGpt4oPattern}});
  put({"falcon"}, {.expressions = {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2Pattern, "[0-9][0-9][0-9]"}});
  put({"deepseek-llm"},
      {.expressions = {R"([\r\n])", kDeepSeekLetters, R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)",
                       R"(\s+$)", kDeepSeekCjk, R"(\p{N}+)"}});
  put({"deepseek-coder"},
      {.expressions = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepSeekCjk, R"(\p{N})"}});
  put({"deepseek-v3", "hunyuan-dense"},
      {.expressions = {R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+", kDeepSeek3Pattern}});
  put({"bloom", "poro-chat", "gpt3-finnish"}, {.expressions = {kBloomPattern}});
  put({"viking"}, {.expressions = {kBloomPattern, R"(\p{N})"}});
  return table;
}

}  // namespace

const GgufPreTokenizer& gguf_pre_tokenizer(std::string_view name) {
  static const std::map<std::string_view, GgufPreTokenizer> table = make_table();
  const auto found = table.find(name);
  if (found == table.end()) {
    throw UserError("GGUF tokenizer: tokenizer.ggml.pre \"{}\" is not known", printable(name));
  }
  return found->second;
}

}  // namespace millrace::text
