// What a tokenizer does to text before splitting it: each step of a tokenizer.json's `normalizer`,
// nested sequences flattened.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/text/regex.hpp"

namespace millrace::text {

struct Prepend {
  std::string text;  // empty input stays empty
};
struct Replace {
  std::string pattern;                 // literal text, when `regex` is null
  std::shared_ptr<const Regex> regex;  // shared: steps are values
  std::string content;
};
enum class UnicodeForm { nfc, nfd, nfkc, nfkd };
struct Lowercase {};
struct StripAccents {};  // drops marks
struct Strip {
  bool left, right;
};
struct ToByteAlphabet {};

using NormalizerStep =
    std::variant<Prepend, Replace, UnicodeForm, Lowercase, StripAccents, Strip, ToByteAlphabet>;

struct NormalizedText {
  std::string text;
  // Whether the first character still comes from the first character of the input: Metaspace's
  // "first" asks.
  bool at_start = true;
};

void normalize(const std::vector<NormalizerStep>& steps, NormalizedText& text);

// `text` with every match of `replace` replaced; also a decoder step.
std::string replace_all(const Replace& replace, std::string_view text);

}  // namespace millrace::text
