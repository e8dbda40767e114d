// UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace millrace {

// Bytes before the first that is not part of a valid character; the size when all are.
std::size_t valid_utf8_prefix(std::string_view bytes);

// Each maximal ill-formed part becomes U+FFFD, as Python's errors="replace" does.
std::string replace_invalid_utf8(std::string_view bytes);

}  // namespace millrace
