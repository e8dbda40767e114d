// Token ids must equal Hugging Face's on any text, and its `tokenizers` mixes versions of Unicode:
// regular expressions know version 16 (Oniguruma 6.9.10), normalization and StripAccents version 9,
// Punctuation version 8, Lowercase version 17. utf8proc 2.8 knows 15 and PCRE2 10.42 knows 14.
// These tables hold the differences; they were found by asking `tokenizers` about every code point.
#pragma once

#include <span>
#include <string_view>

namespace millrace::text {

// Characters that are new in Unicode 15 to 16, with their general category: two letters, or only
// the first where nobody asks for more.
struct NewCharacters {
  char32_t first, last;
  std::string_view category;
};
std::span<const NewCharacters> new_characters();

// A character that normalization and StripAccents leave alone, and that nothing composes with or
// is reordered across: it was not assigned in Unicode 9.
bool unknown_to_normalizers(char32_t code_point);

// The lower case of capitals that are new in Unicode 16 and 17, which Lowercase knows; other
// characters unchanged.
char32_t new_lowercase(char32_t code_point);

// Whether the Punctuation step takes a character, given what today's Unicode says of it.
bool is_old_punctuation(char32_t code_point, bool is_punctuation);

}  // namespace millrace::text
