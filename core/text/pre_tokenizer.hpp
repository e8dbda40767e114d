// How a tokenizer cuts text into pieces before the model sees it: each step of a tokenizer.json's
// `pre_tokenizer`, nested sequences flattened.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/text/regex.hpp"
#include "core/text/word_splitter.hpp"

namespace millrace::text {

// What becomes of the matches that a splitter finds.
enum class SplitBehavior { removed, isolated, contiguous, merged_with_previous, merged_with_next };

struct Split {
  std::string pattern;                 // literal text, when `regex` is null
  std::shared_ptr<const Regex> regex;  // shared: steps are values
  SplitBehavior behavior;
  bool invert;
  WordSplitter words = nullptr;  // a hand-written equal of `regex`, if there is one
};
struct ByteLevel {
  bool add_prefix_space;
  bool use_regex;
};
enum class PrependScheme { always, first, never };
struct Metaspace {
  std::string replacement;  // one character
  PrependScheme prepend_scheme;
  bool split;
};
struct Digits {
  bool individual;
};
struct Punctuation {
  SplitBehavior behavior;
};
struct WordsAndSymbols {};  // "Whitespace": \w+|[^\w\s]+
struct WhitespaceSplit {};

using PreTokenizerStep = std::variant<Split, ByteLevel, Metaspace, Digits, Punctuation,
                                      WordsAndSymbols, WhitespaceSplit>;

// Text and its cuts. Pieces are in order; what lies between them is gone.
struct PreTokenizedText {
  struct Piece {
    std::size_t begin, end;  // into `text`; never empty
    bool at_start;           // its first character is the input's first
  };
  std::string text;
  std::vector<Piece> pieces;
  // Set by a ByteLevel step: the model is to read each byte as its character of the byte alphabet.
  // The characters are written out only if another step must see them.
  bool byte_level = false;

  std::vector<Piece> scratch;  // keeps its memory between texts
};

void pre_tokenize(const std::vector<PreTokenizerStep>& steps, PreTokenizedText& text);

}  // namespace millrace::text
