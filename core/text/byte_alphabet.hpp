// GPT-2's alphabet: each byte has a printable character that stands for it in a byte-level
// vocabulary ('A' for itself, 'Ġ' for the space). Source: Radford et al. 2019, the released
// encoder's bytes_to_unicode.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace millrace::text {

// byte -> its code point, all below 0x144.
const std::array<char32_t, 256>& byte_alphabet();

// code point -> its byte, or -1.
int byte_of(char32_t code_point);

// "Ġhello" -> " hello"; nothing when a character is outside the alphabet. `token` is valid UTF-8.
std::optional<std::string> bytes_of(std::string_view token);

// " hello" -> "Ġhello", appended to `out`.
void append_in_byte_alphabet(std::string& out, std::string_view bytes);

}  // namespace millrace::text
