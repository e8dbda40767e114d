// The pre-tokenizer steps.
#include "core/text/pre_tokenizer.hpp"

#include <utility>

#include "core/text/byte_alphabet.hpp"
#include "core/text/unicode.hpp"
#include "core/text/unicode_versions.hpp"

namespace millrace::text {
namespace {

using Piece = PreTokenizedText::Piece;

// Receives what a splitter finds in one piece, matches and the text between them in order and
// without gaps, and writes the pieces that `behavior` makes of it.
class Cutter {
 public:
  Cutter(std::vector<Piece>& out, const Piece& piece, SplitBehavior behavior)
      : out_(out), piece_(piece), behavior_(behavior) {}

  void add(std::size_t begin, std::size_t end, bool is_match) {
    switch (behavior_) {
      case SplitBehavior::removed:
        if (!is_match) open(begin, end);
        break;
      case SplitBehavior::isolated:
        open(begin, end);
        break;
      case SplitBehavior::contiguous:
        is_match == previous_match_ ? extend(begin, end) : open(begin, end);
        break;
      case SplitBehavior::merged_with_previous:
        is_match && !previous_match_ ? extend(begin, end) : open(begin, end);
        break;
      case SplitBehavior::merged_with_next:
        // Looking back: this part joins a match that stands directly before it, unless that match
        // has to stay alone because another match follows it.
        previous_match_ && !is_match ? extend(begin, end) : open(begin, end);
        break;
    }
    previous_match_ = is_match;
  }

  void close() {
    if (open_) push();
    open_ = false;
  }

 private:
  void open(std::size_t begin, std::size_t end) {
    if (open_) push();
    begin_ = begin;
    end_ = end;
    open_ = true;
  }
  void extend(std::size_t begin, std::size_t end) {
    if (!open_) return open(begin, end);
    end_ = end;
  }
  void push() {
    if (begin_ == end_) return;
    out_.push_back({begin_, end_, piece_.at_start && begin_ == piece_.begin});
  }

  std::vector<Piece>& out_;
  const Piece piece_;
  SplitBehavior behavior_;
  bool previous_match_ = false;
  bool open_ = false;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

// Cuts every piece. `find(part, use)` calls use(begin, end) for each match within a piece's text.
template <typename Find>
void cut_pieces(PreTokenizedText& text, SplitBehavior behavior, bool invert, Find find) {
  text.scratch.clear();
  for (const Piece& piece : text.pieces) {
    Cutter cutter(text.scratch, piece, behavior);
    std::size_t last = piece.begin;
    find(std::string_view(text.text).substr(piece.begin, piece.end - piece.begin),
         [&](std::size_t begin, std::size_t end) {
           begin += piece.begin;
           end += piece.begin;
           if (last != begin) cutter.add(last, begin, invert);
           cutter.add(begin, end, !invert);
           last = end;
         });
    if (last != piece.end) cutter.add(last, piece.end, invert);
    cutter.close();
  }
  text.pieces.swap(text.scratch);
}

template <typename Property>
void cut_characters(PreTokenizedText& text, SplitBehavior behavior, Property has_property) {
  cut_pieces(text, behavior, false, [&](std::string_view part, auto use) {
    for (std::size_t at = 0; at < part.size();) {
      const CodePoint character = decode_utf8(part, at);
      if (has_property(character.value)) use(at, at + character.length);
      at += character.length;
    }
  });
}

void cut_literal(PreTokenizedText& text, SplitBehavior behavior, bool invert,
                 std::string_view literal) {
  cut_pieces(text, behavior, invert, [&](std::string_view part, auto use) {
    for (std::size_t at = part.find(literal); at != std::string_view::npos;
         at = part.find(literal, at + literal.size())) {
      use(at, at + literal.size());
    }
  });
}

void cut_words(PreTokenizedText& text, WordSplitter words) {
  text.scratch.clear();
  for (const Piece& piece : text.pieces) {
    const std::string_view part =
        std::string_view(text.text).substr(piece.begin, piece.end - piece.begin);
    for (std::size_t at = 0; at < part.size();) {
      const std::size_t end = words(part, at);
      text.scratch.push_back({piece.begin + at, piece.begin + end, piece.at_start && at == 0});
      at = end;
    }
  }
  text.pieces.swap(text.scratch);
}

// Rebuilds the text piece by piece: `write(part, piece, out)` appends what a piece becomes.
template <typename Write>
void rewrite_pieces(PreTokenizedText& text, Write write) {
  std::string rebuilt;
  rebuilt.reserve(text.text.size() + text.pieces.size());
  for (Piece& piece : text.pieces) {
    const std::size_t begin = rebuilt.size();
    write(std::string_view(text.text).substr(piece.begin, piece.end - piece.begin), piece, rebuilt);
    piece.begin = begin;
    piece.end = rebuilt.size();
  }
  text.text = std::move(rebuilt);
}

void apply(const Split& step, PreTokenizedText& text) {
  if (step.words != nullptr) {
    cut_words(text, step.words);
  } else if (step.regex != nullptr) {
    cut_pieces(text, step.behavior, step.invert,
               [&](std::string_view part, auto use) { step.regex->for_each_match(part, use); });
  } else {
    cut_literal(text, step.behavior, step.invert, step.pattern);
  }
}

void apply(const ByteLevel& step, PreTokenizedText& text) {
  if (step.add_prefix_space) {
    rewrite_pieces(text, [](std::string_view part, const Piece&, std::string& out) {
      if (!part.starts_with(' ')) out.push_back(' ');
      out.append(part);
    });
  }
  if (step.use_regex) cut_words(text, gpt2_word_end);
  text.byte_level = true;
}

void apply(const Metaspace& step, PreTokenizedText& text) {
  rewrite_pieces(text, [&](std::string_view part, const Piece& piece, std::string& out) {
    const bool prepend = step.prepend_scheme == PrependScheme::always ||
                         (step.prepend_scheme == PrependScheme::first && piece.at_start);
    if (prepend && !part.starts_with(' ') && !part.starts_with(step.replacement)) {
      out.append(step.replacement);
    }
    for (const char c : part) {
      c == ' ' ? out.append(step.replacement) : out.append(1, c);
    }
  });
  if (step.split) cut_literal(text, SplitBehavior::merged_with_next, false, step.replacement);
}

void apply(const Digits& step, PreTokenizedText& text) {
  cut_characters(text, step.individual ? SplitBehavior::isolated : SplitBehavior::contiguous,
                 [](char32_t c) { return (properties(c) & kNumber) != 0; });
}

void apply(const Punctuation& step, PreTokenizedText& text) {
  cut_characters(text, step.behavior, [](char32_t c) {
    if (c >= 0x80) return is_old_punctuation(c, (properties(c) & kPunctuation) != 0);
    return c > 0x20 && c < 0x7F && (properties(c) & (kLetter | kNumber)) == 0;
  });
}

void apply(WordsAndSymbols, PreTokenizedText& text) {
  enum class Kind { space, word, symbol };
  const auto kind_of = [](char32_t c) {
    if (is_word(c, true)) return Kind::word;
    return is_whitespace(c) ? Kind::space : Kind::symbol;
  };
  cut_pieces(text, SplitBehavior::removed, true, [&](std::string_view part, auto use) {
    for (std::size_t at = 0; at < part.size();) {
      const std::size_t begin = at;
      const Kind kind = kind_of(decode_utf8(part, at).value);
      while (at < part.size()) {
        const CodePoint character = decode_utf8(part, at);
        if (kind_of(character.value) != kind) break;
        at += character.length;
      }
      if (kind != Kind::space) use(begin, at);
    }
  });
}

void apply(WhitespaceSplit, PreTokenizedText& text) {
  cut_characters(text, SplitBehavior::removed, [](char32_t c) { return is_whitespace(c); });
}

}  // namespace

void pre_tokenize(const std::vector<PreTokenizerStep>& steps, PreTokenizedText& text) {
  text.byte_level = false;
  for (const PreTokenizerStep& step : steps) {
    if (text.byte_level) {
      rewrite_pieces(text, [](std::string_view part, const Piece&, std::string& out) {
        append_in_byte_alphabet(out, part);
      });
      text.byte_level = false;
    }
    std::visit([&](const auto& one) { apply(one, text); }, step);
  }
}

}  // namespace millrace::text
