#include "core/io/utf8.hpp"

#include <cstdint>

namespace millrace {
namespace {

struct Step {
  std::size_t bytes;  // of the character, or of the ill-formed part
  bool valid;
};

// The character that begins at `at`, by the table of well-formed byte sequences (Unicode, table
// 3-7).
Step step(std::string_view bytes, std::size_t at) {
  const auto byte = [&](std::size_t i) {
    return i < bytes.size() ? static_cast<std::uint8_t>(bytes[i]) : std::uint8_t{0};
  };
  const std::uint8_t lead = byte(at);
  if (lead < 0x80) {
    return {1, true};
  }
  std::size_t length = 0;
  std::uint8_t low = 0x80;  // of the second byte
  std::uint8_t high = 0xbf;
  if (lead >= 0xc2 && lead <= 0xdf) {
    length = 2;
  } else if (lead >= 0xe0 && lead <= 0xef) {
    length = 3;
    low = lead == 0xe0 ? 0xa0 : 0x80;
    high = lead == 0xed ? 0x9f : 0xbf;
  } else if (lead >= 0xf0 && lead <= 0xf4) {
    length = 4;
    low = lead == 0xf0 ? 0x90 : 0x80;
    high = lead == 0xf4 ? 0x8f : 0xbf;
  } else {
    return {1, false};
  }
  for (std::size_t i = 1; i < length; ++i) {
    const std::uint8_t next = byte(at + i);
    if (next < low || next > high) {
      return {i, false};
    }
    low = 0x80;
    high = 0xbf;
  }
  return {length, true};
}

}  // namespace

std::size_t valid_utf8_prefix(std::string_view bytes) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const Step next = step(bytes, at);
    if (!next.valid) {
      break;
    }
    at += next.bytes;
  }
  return at;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (std::size_t at = 0; at < bytes.size();) {
    const Step next = step(bytes, at);
    text += next.valid ? bytes.substr(at, next.bytes) : std::string_view("\xEF\xBF\xBD");
    at += next.bytes;
  }
  return text;
}

}  // namespace millrace
