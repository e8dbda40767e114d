// The tokenizers inside GGUF files. "gpt2" is byte-level BPE whose word expressions go by a name;
// "llama" is SentencePiece's BPE, whose merges follow from the scores of its tokens.
//
// Where llama.cpp and transformers disagree about the same file: "llama" follows transformers (a
// space goes before the text only, and not before one that begins with a space); the expressions of
// a `pre` name, and ignore_merges, are those of the checkpoint's original tokenizer.json.
#include "core/text/gguf_tokenizer.hpp"

#include <algorithm>
#include <span>
#include <utility>

#include "core/text/byte_alphabet.hpp"
#include "core/text/gguf_pre_tokenizers.hpp"
#include "core/text/tokenizer.hpp"
#include "core/text/tokenizer_files.hpp"
#include "core/text/tokenizer_parts.hpp"
#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace text {
namespace {

constexpr std::string_view kSource = "GGUF tokenizer";
constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // "▁"

// tokenizer.ggml.token_type
enum TokenType : int32_t { kUnknown = 2, kControl = 3, kUserDefined = 4 };

int32_t type_of(const GgufTokenizerData& data, std::size_t id) {
  return id < data.token_types.size() ? data.token_types[id] : 0;
}

void check(const GgufTokenizerData& data) {
  if (data.tokens.empty()) throw UserError("{}: it has no tokens", kSource);
  if (!data.token_types.empty() && data.token_types.size() != data.tokens.size()) {
    throw UserError("{}: {} token types for {} tokens", kSource, data.token_types.size(),
                    data.tokens.size());
  }
  for (const auto& [name, id] :
       {std::pair{"bos", data.bos_id}, std::pair{"eos", data.eos_id},
        std::pair{"unknown", data.unk_id}, std::pair{"padding", data.pad_id}}) {
    if (id && (*id < 0 || static_cast<std::size_t>(*id) >= data.tokens.size())) {
      throw UserError("{}: the {} token {} is outside the vocabulary of {}", kSource, name, *id,
                      data.tokens.size());
    }
  }
  for (const std::string& token : data.tokens) {
    if (!is_valid_utf8(token)) throw UserError("{}: a token is not UTF-8", kSource);
  }
}

bool is_named_special(const GgufTokenizerData& data, int32_t id) {
  return id == data.bos_id || id == data.eos_id || id == data.unk_id || id == data.pad_id;
}

// The tokens that are found in text as they are: control tokens, the ones with a role, and what
// the file calls user-defined.
std::vector<AddedToken> added_tokens(const GgufTokenizerData& data) {
  std::vector<AddedToken> added;
  for (std::size_t i = 0; i < data.tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const int32_t type = type_of(data, i);
    const bool special = type == kControl || type == kUnknown || is_named_special(data, id);
    if (data.tokens[i].empty() || !(special || type == kUserDefined)) continue;
    AddedToken token{.content = data.tokens[i], .id = id};
    token.special = special;
    added.push_back(std::move(token));
  }
  return added;
}

Vocabulary vocabulary_of(const std::vector<std::string>& tokens) {
  Vocabulary vocabulary;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    vocabulary.add(tokens[id], static_cast<int64_t>(id), kSource);
  }
  return vocabulary;
}

void set_frame(TokenizerParts& parts, const GgufTokenizerData& data, bool adds_bos) {
  parts.bos = data.bos_id;
  parts.eos = data.eos_id;
  if (data.add_bos.value_or(adds_bos) && data.bos_id) {
    parts.frame.insert(parts.frame.begin(), *data.bos_id);
  }
  if (data.add_eos.value_or(false) && data.eos_id) parts.frame.push_back(*data.eos_id);
}

void build_gpt2(const GgufTokenizerData& data, TokenizerParts& parts) {
  const GgufPreTokenizer& pre = gguf_pre_tokenizer(data.pre);
  for (const std::string_view expression : pre.expressions) {
    parts.pre_tokenizer.push_back(Split{"", std::make_shared<const Regex>(expression),
                                        SplitBehavior::isolated, false,
                                        word_splitter_for(expression)});
  }
  parts.pre_tokenizer.push_back(ByteLevel{.add_prefix_space = false, .use_regex = pre.gpt2_words});
  parts.decoder.push_back(ByteLevelDecoder{});
  const std::vector<AddedToken> added = added_tokens(data);
  // Ordinary tokens that are not spelled in the byte alphabet can only be meant as text.
  std::vector<std::string> tokens = data.tokens;
  std::vector<bool> is_added(tokens.size());
  for (const AddedToken& token : added) is_added[static_cast<std::size_t>(token.id)] = true;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (!is_added[id] && !bytes_of(tokens[id])) {
      std::string spelled;
      append_in_byte_alphabet(spelled, tokens[id]);
      tokens[id] = std::move(spelled);
    }
  }
  Vocabulary vocabulary = vocabulary_of(tokens);
  MergeTable merges(data.merges.size());
  uint32_t rank = 0;
  for (const std::string& merge : data.merges) {
    const std::size_t space = merge.find(' ', 1);  // a token may begin with one, in old files
    if (space == std::string::npos) {
      throw UserError("{}: merge \"{}\" is not two tokens", kSource, printable(merge));
    }
    const std::string_view both = merge;
    add_merge(merges, vocabulary, both.substr(0, space), both.substr(space + 1), "", rank++,
              kSource);
  }
  adopt_vocabulary(parts, vocabulary, added);
  BpeSettings settings;
  settings.ignore_merges = pre.ignore_merges;
  parts.model.emplace(settings, std::move(vocabulary.ids), vocabulary.names, std::move(merges));
  set_frame(parts, data, pre.adds_bos);
}

// Every way to put a token together from two others is a merge; better scores go first, and of
// equal ones the longer left side.
MergeTable merges_from_scores(const Vocabulary& vocabulary, const std::vector<float>& scores) {
  struct Candidate {
    float score;
    std::size_t left_characters, right_characters;
    int32_t left, right, merged;
  };
  std::vector<Candidate> candidates;
  for (std::size_t id = 0; id < vocabulary.names.size(); ++id) {
    const std::string_view name = vocabulary.names[id];
    // A name that occurs twice belongs to its later id.
    if (name.empty() || vocabulary.ids.find(name) != static_cast<int32_t>(id)) continue;
    const std::size_t first = candidates.size();
    const auto characters =
        static_cast<std::size_t>(std::count_if(name.begin(), name.end(), [](char c) {
          return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
        }));
    std::size_t left_characters = 0;
    for (std::size_t at = decode_utf8(name, 0).length; at < name.size();
         at += decode_utf8(name, at).length) {
      ++left_characters;
      const int32_t left = vocabulary.ids.find(name.substr(0, at));
      const int32_t right = vocabulary.ids.find(name.substr(at));
      if (left < 0 || right < 0) continue;
      candidates.push_back({scores[id], left_characters, characters - left_characters, left, right,
                            static_cast<int32_t>(id)});
    }
    std::sort(candidates.begin() + static_cast<std::ptrdiff_t>(first), candidates.end(),
              [](const Candidate& a, const Candidate& b) {
                return std::pair(a.left, a.right) < std::pair(b.left, b.right);
              });
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) {
                     if (a.score != b.score) return a.score > b.score;
                     return std::pair(a.left_characters, a.right_characters) >
                            std::pair(b.left_characters, b.right_characters);
                   });
  MergeTable merges(candidates.size());
  uint32_t rank = 0;
  for (const Candidate& c : candidates) merges.insert(c.left, c.right, {rank++, c.merged});
  return merges;
}

void build_llama(const GgufTokenizerData& data, TokenizerParts& parts) {
  if (data.scores.size() != data.tokens.size()) {
    throw UserError("{}: {} scores for {} tokens", kSource, data.scores.size(), data.tokens.size());
  }
  if (std::any_of(data.scores.begin(), data.scores.end(), [](float s) { return s != s; })) {
    throw UserError("{}: a score is not a number", kSource);
  }
  const bool prefix = data.add_space_prefix.value_or(true);
  parts.pre_tokenizer.push_back(Metaspace{
      std::string(kMetaspace), prefix ? PrependScheme::first : PrependScheme::never, false});
  parts.decoder.push_back(Replace{std::string(kMetaspace), nullptr, " "});
  parts.decoder.push_back(ByteFallbackDecoder{});
  parts.decoder.push_back(Fuse{});
  if (prefix) parts.decoder.push_back(StripDecoder{" ", 1, 0});
  // Some files spell tokens of several spaces with real spaces.
  std::vector<std::string> tokens = data.tokens;
  for (std::string& token : tokens) {
    if (token.empty() || token.find_first_not_of(' ') != std::string::npos) continue;
    std::string spelled;
    for (std::size_t i = 0; i < token.size(); ++i) spelled.append(kMetaspace);
    token = std::move(spelled);
  }
  Vocabulary vocabulary = vocabulary_of(tokens);
  adopt_vocabulary(parts, vocabulary, added_tokens(data));
  BpeSettings settings;
  settings.byte_fallback = true;
  settings.fuse_unk = true;
  if (data.unk_id) settings.unk_token = tokens[static_cast<std::size_t>(*data.unk_id)];
  MergeTable merges = merges_from_scores(vocabulary, data.scores);
  parts.model.emplace(settings, std::move(vocabulary.ids), vocabulary.names, std::move(merges));
  set_frame(parts, data, true);
}

}  // namespace
}  // namespace text

Tokenizer make_tokenizer(const GgufTokenizerData& data) {
  text::check(data);
  auto parts = std::make_unique<text::TokenizerParts>();
  if (data.model == "gpt2") {
    text::build_gpt2(data, *parts);
  } else if (data.model == "llama") {
    text::build_llama(data, *parts);
  } else {
    throw UserError("GGUF tokenizer model \"{}\" is not supported (gpt2 and llama are)",
                    text::printable(data.model));
  }
  return Tokenizer(std::move(parts));
}

}  // namespace millrace
