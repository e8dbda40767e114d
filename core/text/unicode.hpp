// UTF-8 and the Unicode properties that tokenizers ask about. Properties come from utf8proc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace millrace::text {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;
inline constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

struct CodePoint {
  char32_t value;
  uint32_t length;  // bytes of its UTF-8
};

// The code point at `at` of valid UTF-8.
inline CodePoint decode_utf8(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[at + i]));
  };
  const char32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xE0) return {(first & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (first < 0xF0) {
    return {(first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  }
  return {(first & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
          4};
}

// Where the code point that ends before `end` of valid UTF-8 begins.
inline std::size_t previous_utf8(std::string_view text, std::size_t end) {
  do {
    --end;
  } while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  return end;
}

void append_utf8(std::string& out, char32_t code_point);

// What stands at `at` of arbitrary bytes: one character, or the maximal ill-formed part that
// decoders replace by one U+FFFD (Unicode 15, section 3.9, "U+FFFD Substitution of Maximal
// Subparts"; Python and Rust agree). `truncated`: an ill-formed part that more bytes could
// complete.
struct Utf8Step {
  uint32_t length;
  bool valid;
  bool truncated;
};
Utf8Step scan_utf8(std::string_view bytes, std::size_t at);

bool is_valid_utf8(std::string_view bytes);

// Appends `bytes` with every ill-formed part replaced by U+FFFD, as Python's errors="replace".
void append_replacing_invalid(std::string& out, std::string_view bytes);

// Somebody else's text as part of a one-line message: control characters escaped, long text cut.
std::string printable(std::string_view text);

// Properties of a code point, as bits.
enum Property : uint8_t {
  kLetter = 1,        // L
  kNumber = 2,        // N
  kWhitespace = 4,    // White_Space
  kMark = 8,          // M
  kPunctuation = 16,  // P
  kDecimal = 32,      // Nd
};

// Property bits of every code point, 0x110000 entries, filled by the first call.
const uint8_t* property_table();

inline uint8_t properties(char32_t code_point) {
  static const uint8_t* const table = property_table();
  return table[code_point];
}

inline bool is_whitespace(char32_t code_point) { return properties(code_point) & kWhitespace; }

// \w of UTS #18 as regex engines have it: alphabetic, mark, decimal number, connector punctuation,
// and (for Rust's engine) the two join controls.
bool is_word(char32_t code_point, bool join_controls);

}  // namespace millrace::text
