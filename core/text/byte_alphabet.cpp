// GPT-2's byte alphabet, both ways.
#include "core/text/byte_alphabet.hpp"

#include "core/text/unicode.hpp"

namespace millrace::text {
namespace {

constexpr char32_t kAlphabetEnd = 0x144;

bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

}  // namespace

const std::array<char32_t, 256>& byte_alphabet() {
  static const std::array<char32_t, 256> alphabet = [] {
    std::array<char32_t, 256> characters{};
    char32_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      characters[static_cast<std::size_t>(byte)] =
          stands_for_itself(byte) ? static_cast<char32_t>(byte) : next++;
    }
    return characters;
  }();
  return alphabet;
}

int byte_of(char32_t code_point) {
  static const std::array<int16_t, kAlphabetEnd> bytes = [] {
    std::array<int16_t, kAlphabetEnd> table{};
    table.fill(-1);
    for (int16_t byte = 0; byte < 256; ++byte) {
      table[byte_alphabet()[static_cast<std::size_t>(byte)]] = byte;
    }
    return table;
  }();
  return code_point < kAlphabetEnd ? bytes[code_point] : -1;
}

std::optional<std::string> bytes_of(std::string_view token) {
  std::string bytes;
  for (std::size_t at = 0; at < token.size();) {
    const CodePoint character = decode_utf8(token, at);
    const int byte = byte_of(character.value);
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    at += character.length;
  }
  return bytes;
}

void append_in_byte_alphabet(std::string& out, std::string_view bytes) {
  for (const char byte : bytes) {
    append_utf8(out, byte_alphabet()[static_cast<unsigned char>(byte)]);
  }
}

}  // namespace millrace::text
