// The normalizer steps.
#include "core/text/normalizer.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "core/text/byte_alphabet.hpp"
#include "core/text/unicode.hpp"
#include "core/text/unicode_versions.hpp"
#include "kernels/base/error.hpp"

namespace millrace::text {
namespace {

// Whether a form leaves `text` as it is, by a test that is quick and may say no in vain: all four
// keep ASCII, and NFC keeps everything below the first combining mark.
bool already_in_form(UnicodeForm form, std::string_view text) {
  // U+0300 is CC 80: a lead byte of CC or more is the first that can matter to NFC.
  const unsigned char limit = form == UnicodeForm::nfc ? 0xCC : 0x80;
  return std::all_of(text.begin(), text.end(),
                     [&](char c) { return static_cast<unsigned char>(c) < limit; });
}

std::string to_form_of_part(UnicodeForm form, std::string_view text) {
  if (text.empty()) return {};
  int options = UTF8PROC_STABLE;
  options |=
      form == UnicodeForm::nfc || form == UnicodeForm::nfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == UnicodeForm::nfkc || form == UnicodeForm::nfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* out = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &out,
                                             static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(out, &std::free);
  if (size == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
  if (size < 0) throw UserError("Unicode normalization: {}", utf8proc_errmsg(size));
  return std::string(reinterpret_cast<const char*>(out), static_cast<std::size_t>(size));
}

// Characters that the reference does not know part the text: they stay, and what lies between them
// is normalized by itself.
std::string to_form(UnicodeForm form, std::string_view text) {
  std::string out;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint character = decode_utf8(text, at);
    if (unknown_to_normalizers(character.value)) {
      out.append(to_form_of_part(form, text.substr(begin, at - begin)));
      out.append(text.substr(at, character.length));
      begin = at + character.length;
    }
    at += character.length;
  }
  return out.append(to_form_of_part(form, text.substr(begin)));
}

// U+1CF2 and U+1CF3 were marks in Unicode 9.
bool is_old_mark(char32_t code_point) {
  if (code_point == 0x1CF2 || code_point == 0x1CF3) return true;
  return (properties(code_point) & kMark) != 0 && !unknown_to_normalizers(code_point);
}

void apply(const Prepend& step, NormalizedText& text) {
  if (!text.text.empty()) text.text.insert(0, step.text);
}

void apply(const Replace& step, NormalizedText& text) {
  // A replacement takes the place of the last character it replaces.
  if (text.at_start && !text.text.empty()) {
    std::size_t end = 0;
    if (step.regex != nullptr) {
      const auto match = step.regex->find(text.text, 0);
      if (match && match->begin == 0) end = match->end;
    } else if (text.text.starts_with(step.pattern)) {
      end = step.pattern.size();
    }
    if (end > 0 && (step.content.empty() || end > decode_utf8(text.text, 0).length)) {
      text.at_start = false;
    }
  }
  text.text = replace_all(step, text.text);
}

void apply(UnicodeForm form, NormalizedText& text) {
  if (!already_in_form(form, text.text)) text.text = to_form(form, text.text);
}

void apply(Lowercase, NormalizedText& text) {
  std::string lower;
  lower.reserve(text.text.size());
  for (std::size_t at = 0; at < text.text.size();) {
    const CodePoint character = decode_utf8(text.text, at);
    at += character.length;
    if (character.value == 0x130) {  // the one character whose lower case is two
      lower.append("i\xCC\x87");
    } else {
      const char32_t code_point = new_lowercase(character.value);
      append_utf8(lower, static_cast<char32_t>(
                             utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point))));
    }
  }
  text.text = std::move(lower);
}

void apply(StripAccents, NormalizedText& text) {
  std::string kept;
  kept.reserve(text.text.size());
  for (std::size_t at = 0; at < text.text.size();) {
    const CodePoint character = decode_utf8(text.text, at);
    if (!is_old_mark(character.value)) {
      kept.append(text.text, at, character.length);
    } else if (at == 0) {
      text.at_start = false;
    }
    at += character.length;
  }
  text.text = std::move(kept);
}

void apply(const Strip& step, NormalizedText& text) {
  std::size_t end = text.text.size();
  while (step.right && end > 0) {
    const std::size_t last = previous_utf8(text.text, end);
    if (!is_whitespace(decode_utf8(text.text, last).value)) break;
    end = last;
  }
  std::size_t begin = 0;
  while (step.left && begin < end) {
    const CodePoint character = decode_utf8(text.text, begin);
    if (!is_whitespace(character.value)) break;
    begin += character.length;
  }
  if (begin > 0) text.at_start = false;
  text.text = text.text.substr(begin, end - begin);
}

void apply(ToByteAlphabet, NormalizedText& text) {
  std::string mapped;
  append_in_byte_alphabet(mapped, text.text);
  text.text = std::move(mapped);
}

}  // namespace

std::string replace_all(const Replace& replace, std::string_view text) {
  std::string out;
  std::size_t copied = 0;
  const auto put = [&](std::size_t begin, std::size_t end) {
    out.append(text, copied, begin - copied).append(replace.content);
    copied = end;
  };
  if (replace.regex != nullptr) {
    replace.regex->for_each_match(text, put);
  } else {
    for (std::size_t at = text.find(replace.pattern); at != std::string_view::npos;
         at = text.find(replace.pattern, at + replace.pattern.size())) {
      put(at, at + replace.pattern.size());
    }
  }
  out.append(text, copied);
  return out;
}

void normalize(const std::vector<NormalizerStep>& steps, NormalizedText& text) {
  for (const NormalizerStep& step : steps) {
    std::visit([&](const auto& one) { apply(one, text); }, step);
  }
}

}  // namespace millrace::text
