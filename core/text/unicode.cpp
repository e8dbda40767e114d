// UTF-8 scanning and the property table.
#include "core/text/unicode.hpp"

#include <fmt/format.h>
#include <utf8proc.h>

#include <cstring>
#include <iterator>
#include <vector>

#include "core/text/unicode_versions.hpp"

namespace millrace::text {

void append_utf8(std::string& out, char32_t code_point) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

Utf8Step scan_utf8(std::string_view bytes, std::size_t at) {
  const auto first = static_cast<unsigned char>(bytes[at]);
  if (first < 0x80) return {1, true, false};
  // The range of the second byte is narrower after E0, ED, F0 and F4 (Unicode 15, table 3-7).
  uint32_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return {1, false, false};
  }
  for (uint32_t i = 1; i < length; ++i) {
    if (at + i >= bytes.size()) return {i, false, true};
    const auto byte = static_cast<unsigned char>(bytes[at + i]);
    if (byte < low || byte > high) return {i, false, false};
    low = 0x80;
    high = 0xBF;
  }
  return {length, true, false};
}

namespace {

// Length of the run of ASCII bytes at `at`.
std::size_t ascii_run(std::string_view bytes, std::size_t at) {
  const std::size_t begin = at;
  while (at + 8 <= bytes.size()) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, 8);
    if ((word & 0x8080808080808080u) != 0) break;
    at += 8;
  }
  while (at < bytes.size() && static_cast<unsigned char>(bytes[at]) < 0x80) ++at;
  return at - begin;
}

}  // namespace

bool is_valid_utf8(std::string_view bytes) {
  for (std::size_t at = ascii_run(bytes, 0); at < bytes.size(); at += ascii_run(bytes, at)) {
    const Utf8Step step = scan_utf8(bytes, at);
    if (!step.valid) return false;
    at += step.length;
  }
  return true;
}

void append_replacing_invalid(std::string& out, std::string_view bytes) {
  std::size_t copied = 0;
  for (std::size_t at = ascii_run(bytes, 0); at < bytes.size(); at += ascii_run(bytes, at)) {
    const Utf8Step step = scan_utf8(bytes, at);
    if (!step.valid) {
      out.append(bytes, copied, at - copied);
      out.append(kReplacementUtf8);
      copied = at + step.length;
    }
    at += step.length;
  }
  out.append(bytes, copied);
}

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 400;
  std::string out;
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      fmt::format_to(std::back_inserter(out), "\\x{:02X}", byte);
    } else {
      out.push_back(c);
    }
  }
  return text.size() > kLongest ? out + "..." : out;
}

namespace {

uint8_t bits_of(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return kLetter;
    case UTF8PROC_CATEGORY_ND:
      return kNumber | kDecimal;
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kMark;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return kPunctuation;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return kWhitespace;
    default:
      return 0;
  }
}

uint8_t bits_of(std::string_view category) {
  switch (category[0]) {
    case 'L':
      return kLetter;
    case 'N':
      return category == "Nd" ? kNumber | kDecimal : kNumber;
    case 'M':
      return kMark;
    case 'P':
      return kPunctuation;
    default:
      return 0;
  }
}

}  // namespace

const uint8_t* property_table() {
  static const std::vector<uint8_t> table = [] {
    std::vector<uint8_t> bits(0x110000);
    for (utf8proc_int32_t code = 0; code < 0x110000; ++code) {
      bits[static_cast<std::size_t>(code)] = bits_of(utf8proc_category(code));
    }
    for (const NewCharacters& range : new_characters()) {
      for (char32_t code = range.first; code <= range.last; ++code) {
        bits[code] = bits_of(range.category);
      }
    }
    for (char32_t code : {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}) bits[code] |= kWhitespace;
    return bits;
  }();
  return table.data();
}

bool is_word(char32_t code_point, bool join_controls) {
  if (properties(code_point) & (kLetter | kMark | kDecimal)) return true;
  if (join_controls && (code_point == 0x200C || code_point == 0x200D)) return true;
  const utf8proc_category_t category = utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
  if (category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_PC) return true;
  // The alphabetic symbols: circled and squared Latin letters.
  return (code_point >= 0x24B6 && code_point <= 0x24E9) ||
         (code_point >= 0x1F130 && code_point <= 0x1F149) ||
         (code_point >= 0x1F150 && code_point <= 0x1F169) ||
         (code_point >= 0x1F170 && code_point <= 0x1F189);
}

}  // namespace millrace::text
