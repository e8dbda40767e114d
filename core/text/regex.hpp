// A regular expression of a tokenizer.json, run by PCRE2's JIT.
//
// Such patterns are written for Oniguruma's Ruby syntax. Where PCRE2 reads the same text
// differently, the pattern is translated first: \s and \w are Unicode's sets (PCRE2 adds U+180E to
// \s and drops marks from \w), \h is a hexadecimal digit, ^ and $ match at every line, (?m) lets
// the dot match a newline, x{1,3}+ repeats instead of being possessive. What cannot be translated
// (class intersections, nested classes) is refused.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct pcre2_real_code_8;

namespace millrace::text {

class Regex {
 public:
  // UserError: a pattern that does not compile or cannot be translated; it names the pattern.
  explicit Regex(std::string_view pattern);

  struct Match {
    std::size_t begin, end;
  };

  // The leftmost match at or after `from`. `text` is valid UTF-8 and `from` a character's start;
  // what lies before `from` is seen by look-behind. UserError: a match that backtracks beyond all
  // measure.
  std::optional<Match> find(std::string_view text, std::size_t from) const;

  // `use(begin, end)` for each non-overlapping match, left to right. An empty match right after
  // the previous match is passed over.
  template <typename Use>
  void for_each_match(std::string_view text, Use use) const {
    std::optional<std::size_t> last_end;
    std::size_t from = 0;
    while (from <= text.size()) {
      const std::optional<Match> match = find(text, from);
      if (!match) return;
      if (match->begin == match->end && last_end == match->end) {
        from = next_character(text, match->end);
        continue;
      }
      last_end = from = match->end;
      use(match->begin, match->end);
    }
  }

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  static std::size_t next_character(std::string_view text, std::size_t at);

  std::unique_ptr<pcre2_real_code_8, Free> code_;
  std::string pattern_;  // for messages
  bool jit_ = false;
};

// The translation alone, for tests.
std::string translate_to_pcre2(std::string_view pattern);

}  // namespace millrace::text
