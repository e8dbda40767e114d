// tokenizer.json, as Hugging Face's `tokenizers` writes it, to TokenizerParts. One function for
// each kind of thing; a kind that is not known is an error that names it. `truncation` and
// `padding` are settings of a batch in Python, and do not apply here.
#include <algorithm>
#include <functional>

#include "core/text/json_reader.hpp"
#include "core/text/tokenizer.hpp"
#include "core/text/tokenizer_files.hpp"
#include "core/text/tokenizer_parts.hpp"
#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace text {
namespace {

// Calls `use` for `value`, or for each member of it when it is a "Sequence" (nested ones too).
void for_each_step(const JsonValue& value, std::string_view members,
                   const std::function<void(const JsonValue&)>& use) {
  if (value.at("type").string() != "Sequence") return use(value);
  value.at(members).for_each([&](const JsonValue& step) { for_each_step(step, members, use); });
}

[[noreturn]] void refuse_kind(const JsonValue& value, std::string_view what) {
  throw UserError("{}: {} \"{}\" is not supported", value.place(), what,
                  printable(value.at("type").string()));
}

std::string one_character(const JsonValue& value) {
  const std::string_view text = value.string();
  if (text.empty() || decode_utf8(text, 0).length != text.size()) {
    value.refuse("must be one character");
  }
  return std::string(text);
}

// A pattern is {"String": literal} or {"Regex": expression}.
struct Pattern {
  std::string literal;
  std::shared_ptr<const Regex> regex;
  std::string expression;
};

Pattern read_pattern(const JsonValue& value) {
  Pattern pattern;
  if (const auto expression = value.find("Regex")) {
    pattern.expression = expression->string();
  } else {
    pattern.literal = value.at("String").string();
    if (!pattern.literal.empty()) return pattern;
  }
  // An empty literal matches between all characters, as an empty expression does.
  try {
    pattern.regex = std::make_shared<const Regex>(pattern.expression);
  } catch (const UserError& error) {
    throw UserError("{}: {}", value.place(), error.what());
  }
  return pattern;
}

Replace read_replace(const JsonValue& step) {
  Pattern pattern = read_pattern(step.at("pattern"));
  return {std::move(pattern.literal), std::move(pattern.regex),
          std::string(step.at("content").string())};
}

NormalizerStep read_normalizer_step(const JsonValue& step) {
  const std::string_view type = step.at("type").string();
  if (type == "NFC") return UnicodeForm::nfc;
  if (type == "NFD") return UnicodeForm::nfd;
  if (type == "NFKC") return UnicodeForm::nfkc;
  if (type == "NFKD") return UnicodeForm::nfkd;
  if (type == "Lowercase") return Lowercase{};
  if (type == "StripAccents") return StripAccents{};
  if (type == "ByteLevel") return ToByteAlphabet{};
  if (type == "Prepend") return Prepend{std::string(step.at("prepend").string())};
  if (type == "Replace") return read_replace(step);
  if (type == "Strip") {
    return Strip{step.at("strip_left").boolean(), step.at("strip_right").boolean()};
  }
  refuse_kind(step, "normalizer");
}

SplitBehavior read_behavior(const JsonValue& value) {
  const std::string_view name = value.string();
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  throw UserError("{}: \"{}\" is no split behavior", value.place(), printable(name));
}

PrependScheme read_prepend_scheme(const JsonValue& step) {
  PrependScheme scheme = PrependScheme::always;
  if (const auto name = step.find("prepend_scheme")) {
    if (name->string() == "first") {
      scheme = PrependScheme::first;
    } else if (name->string() == "never") {
      scheme = PrependScheme::never;
    } else if (name->string() != "always") {
      throw UserError("{}: \"{}\" is no prepend scheme", name->place(), printable(name->string()));
    }
  }
  return step.boolean("add_prefix_space", true) ? scheme : PrependScheme::never;
}

PreTokenizerStep read_split(const JsonValue& step) {
  Pattern pattern = read_pattern(step.at("pattern"));
  Split split{std::move(pattern.literal), std::move(pattern.regex),
              read_behavior(step.at("behavior")), step.at("invert").boolean()};
  // Where matches follow each other without gaps, these two leave the matches as they are.
  if (split.invert ? split.behavior == SplitBehavior::removed
                   : split.behavior == SplitBehavior::isolated) {
    split.words = word_splitter_for(pattern.expression);
  }
  return split;
}

PreTokenizerStep read_pre_tokenizer_step(const JsonValue& step) {
  const std::string_view type = step.at("type").string();
  if (type == "Split") return read_split(step);
  if (type == "ByteLevel") {
    return ByteLevel{step.at("add_prefix_space").boolean(), step.boolean("use_regex", true)};
  }
  if (type == "Metaspace") {
    return Metaspace{one_character(step.at("replacement")), read_prepend_scheme(step),
                     step.boolean("split", true)};
  }
  if (type == "Digits") return Digits{step.at("individual_digits").boolean()};
  if (type == "Punctuation") {
    const auto behavior = step.find("behavior");
    return Punctuation{behavior ? read_behavior(*behavior) : SplitBehavior::isolated};
  }
  if (type == "Whitespace") return WordsAndSymbols{};
  if (type == "WhitespaceSplit") return WhitespaceSplit{};
  refuse_kind(step, "pre-tokenizer");
}

DecoderStep read_decoder_step(const JsonValue& step) {
  const std::string_view type = step.at("type").string();
  if (type == "ByteLevel") return ByteLevelDecoder{};
  if (type == "ByteFallback") return ByteFallbackDecoder{};
  if (type == "Fuse") return Fuse{};
  if (type == "Replace") return read_replace(step);
  if (type == "Metaspace") {
    return MetaspaceDecoder{one_character(step.at("replacement")),
                            read_prepend_scheme(step) != PrependScheme::never};
  }
  if (type == "Strip") {
    const int64_t start = step.at("start").integer();
    const int64_t stop = step.at("stop").integer();
    if (start < 0 || stop < 0) step.refuse("must not strip a negative number of characters");
    return StripDecoder{one_character(step.at("content")), static_cast<std::size_t>(start),
                        static_cast<std::size_t>(stop)};
  }
  if (type == "BPEDecoder") {
    if (step.at("suffix").string().empty()) step.refuse("must have a suffix that is not empty");
    return SuffixDecoder{std::string(step.at("suffix").string())};
  }
  refuse_kind(step, "decoder");
}

int32_t read_id(const JsonValue& value) {
  const int64_t id = value.integer();
  if (id < 0 || id > kMaxTokenId) throw UserError("{}: impossible id {}", value.place(), id);
  return static_cast<int32_t>(id);
}

// The special tokens that a post-processor puts around `frame`.
std::vector<int32_t> read_frame(const JsonValue& step, const std::vector<int32_t>& frame) {
  const std::string_view type = step.at("type").string();
  std::vector<int32_t> framed;
  if (type == "ByteLevel") return frame;  // moves offsets only
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    const auto id_of = [&](std::string_view key) {  // ["</s>", 2]
      std::optional<int32_t> id;
      step.at(key).for_each([&](const JsonValue& part) {
        if (!part.is_string()) id = read_id(part);
      });
      if (!id) step.at(key).refuse("must be a token and its id");
      return *id;
    };
    framed.push_back(id_of("cls"));
    framed.insert(framed.end(), frame.begin(), frame.end());
    framed.push_back(id_of("sep"));
    return framed;
  }
  if (type != "TemplateProcessing") refuse_kind(step, "post-processor");
  const JsonValue special_tokens = step.at("special_tokens");
  step.at("single").for_each([&](const JsonValue& piece) {
    if (const auto sequence = piece.find("Sequence")) {
      if (sequence->at("id").string() != "A") sequence->refuse("must be the sequence A");
      framed.insert(framed.end(), frame.begin(), frame.end());
      return;
    }
    const std::string_view name = piece.at("SpecialToken").at("id").string();
    special_tokens.at(name).at("ids").for_each(
        [&](const JsonValue& id) { framed.push_back(read_id(id)); });
  });
  constexpr std::size_t kLongestFrame = 256;  // templates in sequence multiply
  if (framed.size() > kLongestFrame) step.refuse("adds too many tokens");
  return framed;
}

// Files keep a merge as ["a", "b"] or, before 2024, as "a b".
std::pair<std::string_view, std::string_view> read_merge(const JsonValue& merge) {
  if (merge.is_string()) {
    const std::string_view both = merge.string();
    const std::size_t space = both.find(' ');
    if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos) {
      throw UserError("{}: \"{}\" is not two tokens", merge.place(), printable(both));
    }
    return {both.substr(0, space), both.substr(space + 1)};
  }
  std::vector<std::string_view> sides;
  merge.for_each([&](const JsonValue& side) { sides.push_back(side.string()); });
  if (sides.size() != 2) merge.refuse("must be two tokens");
  return {sides[0], sides[1]};
}

BpeSettings read_bpe_settings(const JsonValue& model) {
  if (const auto dropout = model.find("dropout"); dropout && dropout->number() != 0) {
    throw UserError("{}: dropout {} would make encodings random", dropout->place(),
                    dropout->number());
  }
  BpeSettings settings;
  if (const auto unk = model.find("unk_token")) settings.unk_token = unk->string();
  settings.continuing_subword_prefix = model.string("continuing_subword_prefix", "");
  settings.end_of_word_suffix = model.string("end_of_word_suffix", "");
  settings.fuse_unk = model.boolean("fuse_unk", false);
  settings.byte_fallback = model.boolean("byte_fallback", false);
  settings.ignore_merges = model.boolean("ignore_merges", false);
  return settings;
}

void read_model(const JsonValue& model, const JsonValue& root, TokenizerParts& parts) {
  // Files from before 2021 leave the type out.
  if (const auto type = model.find("type"); type && type->string() != "BPE") {
    throw UserError("{}: tokenizer model \"{}\" is not supported", model.place(),
                    printable(type->string()));
  }
  const BpeSettings settings = read_bpe_settings(model);
  Vocabulary vocabulary;
  const JsonValue vocab = model.at("vocab");
  vocab.for_each_member([&](std::string_view name, simdjson::dom::element id) {
    vocabulary.add(name, JsonValue(id, vocab.place()).integer(), vocab.place());
  });
  MergeTable merges;
  uint32_t rank = 0;
  model.at("merges").for_each([&](const JsonValue& merge) {
    const auto [left, right] = read_merge(merge);
    add_merge(merges, vocabulary, left, right, settings.continuing_subword_prefix, rank++,
              merge.place());
  });
  const auto added = root.find("added_tokens");
  adopt_vocabulary(parts, vocabulary,
                   added ? read_added_tokens(*added, vocabulary) : std::vector<AddedToken>{});
  parts.model.emplace(settings, std::move(vocabulary.ids), vocabulary.names, std::move(merges));
}

}  // namespace

std::vector<AddedToken> read_added_tokens(const JsonValue& list, const Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  StringTable known;
  int64_t next_id = static_cast<int64_t>(vocabulary.ids.size());
  list.for_each([&](const JsonValue& value) {
    AddedToken token;
    token.content = value.at("content").string();
    token.single_word = value.boolean("single_word", false);
    token.lstrip = value.boolean("lstrip", false);
    token.rstrip = value.boolean("rstrip", false);
    token.normalized = value.boolean("normalized", true);
    token.special = value.boolean("special", false);
    if (token.content.empty()) return;
    // The id in the file is only a remark: `tokenizers` counts anew, and so must we.
    token.id = known.find(token.content);
    if (token.id < 0) token.id = vocabulary.ids.find(token.content);
    if (token.id < 0) token.id = static_cast<int32_t>(next_id++);
    if (token.id > kMaxTokenId) throw UserError("{}: impossible id {}", value.place(), token.id);
    known.insert(token.content, token.id);
    tokens.push_back(std::move(token));
  });
  return tokens;
}

void add_merge(MergeTable& merges, const Vocabulary& vocabulary, std::string_view left,
               std::string_view right, std::string_view continuing_prefix, uint32_t rank,
               std::string_view place) {
  const auto id_of = [&](std::string_view name) {
    const int32_t id = vocabulary.ids.find(name);
    if (id < 0)
      throw UserError("{}: token \"{}\" is not in the vocabulary", place, printable(name));
    return id;
  };
  const int32_t left_id = id_of(left);
  const int32_t right_id = id_of(right);
  std::string merged(left);
  merged.append(right.substr(std::min(continuing_prefix.size(), right.size())));
  merges.insert(left_id, right_id, {rank, id_of(merged)});
}

}  // namespace text

Tokenizer parse_tokenizer(std::string_view tokenizer_json, std::string_view tokenizer_config_json,
                          std::string_view name) {
  const text::JsonDocument document(tokenizer_json, name);
  const text::JsonValue root = document.root();
  auto parts = std::make_unique<text::TokenizerParts>();
  if (const auto normalizer = root.find("normalizer")) {
    text::for_each_step(*normalizer, "normalizers", [&](const text::JsonValue& step) {
      parts->normalizer.push_back(text::read_normalizer_step(step));
    });
  }
  if (const auto pre_tokenizer = root.find("pre_tokenizer")) {
    text::for_each_step(*pre_tokenizer, "pretokenizers", [&](const text::JsonValue& step) {
      parts->pre_tokenizer.push_back(text::read_pre_tokenizer_step(step));
    });
  }
  if (const auto post_processor = root.find("post_processor")) {
    text::for_each_step(*post_processor, "processors", [&](const text::JsonValue& step) {
      parts->frame = text::read_frame(step, parts->frame);
    });
  }
  if (const auto decoder = root.find("decoder")) {
    text::for_each_step(*decoder, "decoders", [&](const text::JsonValue& step) {
      parts->decoder.push_back(text::read_decoder_step(step));
    });
  } else {
    parts->decoder.push_back(text::JoinWithSpaces{});
  }
  text::read_model(root.at("model"), root, *parts);
  if (!tokenizer_config_json.empty()) {
    const auto special = text::read_special_tokens(tokenizer_config_json, "tokenizer_config.json");
    const auto id_of = [&](const char* key) -> std::optional<int32_t> {
      const auto found = special.find(key);
      const int32_t id = found == special.end() ? -1 : parts->ids.find(found->second);
      return id < 0 ? std::nullopt : std::optional(id);
    };
    parts->bos = id_of("bos_token");
    parts->eos = id_of("eos_token");
  }
  return Tokenizer(std::move(parts));
}

}  // namespace millrace
