// Oniguruma's Ruby syntax to PCRE2's: see regex.hpp for what differs.
#include <cctype>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "core/text/regex.hpp"
#include "core/text/unicode.hpp"
#include "core/text/unicode_versions.hpp"
#include "kernels/base/error.hpp"

namespace millrace::text {
namespace {

constexpr std::string_view kSpace =
    "\\x09-\\x0D\\x20\\x85\\xA0\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}"
    "\\x{3000}";
constexpr std::string_view kNotSpace =
    "\\x00-\\x08\\x0E-\\x1F\\x21-\\x84\\x86-\\x9F\\xA1-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-"
    "\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{10FFFF}";
// What \w holds besides \p{L}, \p{M} and \p{Nd}.
constexpr std::string_view kOtherWord =
    "\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{"
    "1F189}"
    "\\xB2\\xB3\\xB9\\xBC-\\xBE";

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      switch (const char c = pattern_[at_]) {
        case '\\':
          atom_ = out_.size();
          escape(false);
          break;
        case '[':
          atom_ = out_.size();
          character_class();
          break;
        case '(':
          groups_.push_back(out_.size());
          group();
          break;
        case ')':
          if (!groups_.empty()) {
            atom_ = groups_.back();
            groups_.pop_back();
          }
          take();
          break;
        case '{':
          interval();
          break;
        case '?':
        case '*':
        case '+':
          take();
          break;
        default:
          if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) atom_ = out_.size();
          take();
          break;
      }
    }
    return std::move(out_);
  }

 private:
  void take() { out_.push_back(pattern_[at_++]); }

  [[noreturn]] void refuse(std::string_view what) const {
    throw UserError("regular expression \"{}\": {} is not supported", printable(pattern_), what);
  }

  void escape(bool in_class) {
    if (at_ + 1 >= pattern_.size()) return take();  // PCRE2 reports it
    const char kind = pattern_[at_ + 1];
    const auto replace = [&](std::string_view set, bool negated) {
      at_ += 2;
      if (in_class) {
        if (negated) refuse("a negated escape within a class");
        out_.append(set);
      } else {
        out_.append(negated ? "[^" : "[").append(set).push_back(']');
      }
    };
    switch (kind) {
      case 's':
        return replace(kSpace, false);
      case 'S':
        return replace(kNotSpace, false);
      case 'w':
        return replace(word_set(), false);
      case 'W':
        return replace(word_set(), true);
      case 'd':
        return replace(property_set("Nd"), false);
      case 'D':
        if (in_class) break;  // as \P{Nd}: see property()
        return replace(property_set("Nd"), true);
      case 'h':
        return replace("0-9a-fA-F", false);
      case 'H':
        return replace("0-9a-fA-F", true);
      case 'u':  // \uHHHH
        if (at_ + 6 > pattern_.size()) refuse("a short \\u escape");
        for (std::size_t i = 2; i < 6; ++i) {
          if (!std::isxdigit(static_cast<unsigned char>(pattern_[at_ + i]))) {
            refuse("a \\u escape without four hexadecimal digits");
          }
        }
        out_.append("\\x{").append(pattern_.substr(at_ + 2, 4)).push_back('}');
        at_ += 6;
        return;
      case 'p':
      case 'P': {  // the name in braces is no interval
        const std::size_t close = pattern_.find('}', at_);
        if (at_ + 2 < pattern_.size() && pattern_[at_ + 2] == '{' &&
            close != std::string_view::npos) {
          property(pattern_.substr(at_ + 3, close - at_ - 3), kind == 'P', in_class);
          at_ = close + 1;
          return;
        }
        break;
      }
      case 'x':
        if (at_ + 2 < pattern_.size() && pattern_[at_ + 2] == '{') {
          const std::size_t close = pattern_.find('}', at_);
          if (close == std::string_view::npos) refuse("an open \\x{ escape");
          out_.append(pattern_.substr(at_, close + 1 - at_));
          at_ = close + 1;
          return;
        }
        break;
      default:
        break;
    }
    take();
    take();
  }

  // What a class has to hold for the property `name`: \p{name} and the characters that PCRE2's
  // Unicode does not have yet.
  static std::string property_set(std::string_view name) {
    std::string set = fmt::format("\\p{{{}}}", name);
    for (const NewCharacters& range : new_characters()) {
      if (name.empty() || !range.category.starts_with(name)) continue;
      fmt::format_to(std::back_inserter(set), "\\x{{{:X}}}-\\x{{{:X}}}",
                     static_cast<uint32_t>(range.first), static_cast<uint32_t>(range.last));
    }
    return set;
  }

  static std::string word_set() {
    return property_set("L") + property_set("M") + property_set("Nd") + std::string(kOtherWord);
  }

  void property(std::string_view name, bool negated, bool in_class) {
    if (in_class && negated) {
      // There is no spelling that would leave the new characters out.
      fmt::format_to(std::back_inserter(out_), "\\P{{{}}}", name);
    } else if (in_class) {
      out_.append(property_set(name));
    } else {
      fmt::format_to(std::back_inserter(out_), "[{}{}]", negated ? "^" : "", property_set(name));
    }
  }

  void character_class() {
    take();
    if (at_ < pattern_.size() && pattern_[at_] == '^') take();
    if (at_ < pattern_.size() && pattern_[at_] == ']') {  // a literal in first place
      out_.append("\\]");
      ++at_;
    }
    while (at_ < pattern_.size() && pattern_[at_] != ']') {
      if (pattern_[at_] == '\\') {
        escape(true);
      } else if (pattern_.substr(at_, 2) == "[:") {
        const std::size_t close = pattern_.find(":]", at_);
        if (close == std::string_view::npos) refuse("an open [: class");
        out_.append(pattern_.substr(at_, close + 2 - at_));
        at_ = close + 2;
      } else if (pattern_[at_] == '[') {
        refuse("a class within a class");
      } else if (pattern_.substr(at_, 2) == "&&") {
        refuse("an intersection of classes");
      } else {
        take();
      }
    }
    if (at_ < pattern_.size()) take();
  }

  // An opening bracket; in inline flags like (?mi: Ruby's m is PCRE2's s.
  void group() {
    take();
    if (pattern_.substr(at_, 1) != "?") return;
    std::size_t end = at_ + 1;
    while (end < pattern_.size() && (pattern_[end] == 'i' || pattern_[end] == 'm' ||
                                     pattern_[end] == 'x' || pattern_[end] == '-')) {
      ++end;
    }
    const bool flags =
        end > at_ + 1 && end < pattern_.size() && (pattern_[end] == ':' || pattern_[end] == ')');
    if (!flags) return take();
    for (; at_ < end; ++at_) out_.push_back(pattern_[at_] == 'm' ? 's' : pattern_[at_]);
  }

  void interval() {
    const std::size_t close = pattern_.find('}', at_);
    const std::string_view body =
        close == std::string_view::npos ? "" : pattern_.substr(at_ + 1, close - at_ - 1);
    if (body.empty() || body.find_first_not_of("0123456789,") != std::string_view::npos) {
      atom_ = out_.size();  // a literal brace
      return take();
    }
    if (body.front() == ',') {  // {,n}: PCRE2 10.42 would read it as text
      out_.append("{0");
      ++at_;
    }
    out_.append(pattern_.substr(at_, close + 1 - at_));
    at_ = close + 1;
    if (at_ < pattern_.size() && pattern_[at_] == '+') {
      out_.insert(atom_, "(?:");
      out_.push_back(')');
    }
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  std::string out_;
  std::size_t atom_ = 0;             // where the last repeatable item begins in out_
  std::vector<std::size_t> groups_;  // where the open groups begin in out_
};

}  // namespace

std::string translate_to_pcre2(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace millrace::text
