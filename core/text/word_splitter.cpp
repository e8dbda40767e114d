// Hand-written matchers for GPT-2's, Llama 3's and Qwen 2's word expressions.
#include "core/text/word_splitter.hpp"

#include "core/text/unicode.hpp"

namespace millrace::text {

namespace {

constexpr uint8_t kNotSymbol = kWhitespace | kLetter | kNumber;

// Reads a text's characters with their properties.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {
    static const uint8_t* const table = property_table();
    table_ = table;
  }

  struct Character {
    char32_t value = 0;
    uint32_t length = 0;  // 0 at the end of the text
    uint8_t bits = 0;
  };

  Character at(std::size_t position) const {
    if (position >= text_.size()) return {};
    const auto byte = static_cast<unsigned char>(text_[position]);
    if (byte < 0x80) return {byte, 1, table_[byte]};
    const CodePoint character = decode_utf8(text_, position);
    return {character.value, character.length, table_[character.value]};
  }

  // The end of the run of characters with any of `wanted`, at most `limit` of them.
  std::size_t run_with(uint8_t wanted, std::size_t position, std::size_t limit = SIZE_MAX) const {
    for (; limit > 0; --limit) {
      const Character c = at(position);
      if ((c.bits & wanted) == 0) break;
      position += c.length;
    }
    return position;
  }

  // The end of the run of characters with none of `unwanted`.
  std::size_t run_without(uint8_t unwanted, std::size_t position) const {
    for (;;) {
      const Character c = at(position);
      if (c.length == 0 || (c.bits & unwanted) != 0) return position;
      position += c.length;
    }
  }

  // \s+(?!\S)|\s+ where a whitespace character stands: the last one of a run is left to the word
  // that follows.
  std::size_t whitespace_end(std::size_t position) const {
    const std::size_t end = run_with(kWhitespace, position);
    if (end == text_.size()) return end;
    const std::size_t last = previous_utf8(text_, end);
    return last > position ? last : end;
  }

 private:
  std::string_view text_;
  const uint8_t* table_;
};

// The length of the English contraction at `at`, apostrophe included, or 0.
template <bool any_case>
std::size_t contraction_length(std::string_view text, std::size_t at) {
  if (text[at] != '\'' || at + 1 >= text.size()) return 0;
  const auto letter = [&](std::size_t i) {
    if (at + i >= text.size()) return '\0';
    const char c = text[at + i];
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  };
  switch (letter(1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return letter(2) == 'e' ? 3 : 0;
    case 'l':
      return letter(2) == 'l' ? 3 : 0;
    default:
      // The long s folds to s.
      return any_case && text.substr(at + 1, 2) == "\xC5\xBF" ? 3 : 0;
  }
}

// Llama 3's and Qwen 2's expressions differ in how many digits stay together.
template <std::size_t digits>
std::size_t llama3_word_end(std::string_view text, std::size_t at) {
  if (const std::size_t length = contraction_length<true>(text, at)) return at + length;
  const Cursor cursor(text);
  const Cursor::Character first = cursor.at(at);
  const std::size_t second = at + first.length;
  if (first.bits & kLetter) return cursor.run_with(kLetter, second);
  if (first.bits & kNumber) return cursor.run_with(kNumber, second, digits - 1);
  const bool line_end = first.value == '\r' || first.value == '\n';
  if (!line_end && (cursor.at(second).bits & kLetter)) return cursor.run_with(kLetter, second);
  const std::size_t symbols = first.value == ' ' ? second : at;
  std::size_t end = cursor.run_without(kNotSymbol, symbols);
  if (end > symbols) {
    while (end < text.size() && (text[end] == '\r' || text[end] == '\n')) ++end;
    return end;
  }
  // Only whitespace is left: up to its last line end, if it has one.
  end = cursor.run_with(kWhitespace, at);
  const std::size_t newline = text.substr(at, end - at).find_last_of("\r\n");
  return newline != std::string_view::npos ? at + newline + 1 : cursor.whitespace_end(at);
}

}  // namespace

std::size_t gpt2_word_end(std::string_view text, std::size_t at) {
  if (const std::size_t length = contraction_length<false>(text, at)) return at + length;
  const Cursor cursor(text);
  const std::size_t begin = at + (text[at] == ' ' ? 1 : 0);
  const Cursor::Character first = cursor.at(begin);
  if (first.bits & kLetter) return cursor.run_with(kLetter, begin);
  if (first.bits & kNumber) return cursor.run_with(kNumber, begin);
  if (first.length > 0 && !(first.bits & kWhitespace)) return cursor.run_without(kNotSymbol, begin);
  return cursor.whitespace_end(at);
}

WordSplitter word_splitter_for(std::string_view pattern) {
  if (pattern == kGpt2Pattern) return gpt2_word_end;
  if (pattern == kLlama3Pattern) return llama3_word_end<3>;
  if (pattern == kQwen2Pattern) return llama3_word_end<1>;
  return nullptr;
}

}  // namespace millrace::text
