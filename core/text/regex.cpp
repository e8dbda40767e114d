// PCRE2 behind the Regex class.
#include "core/text/regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <stdexcept>

#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"

namespace millrace::text {
namespace {

constexpr uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr std::size_t kJitStackBytes = std::size_t{4} << 20;

// What a match needs besides the pattern, one per thread: only the whole match is asked for, so
// one pair of offsets serves every pattern.
class MatchScratch {
 public:
  MatchScratch()
      : data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        stack_(pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr)) {
    if (data_ == nullptr || context_ == nullptr || stack_ == nullptr) throw std::bad_alloc();
    pcre2_set_match_limit(context_, kMatchLimit);
    pcre2_jit_stack_assign(context_, nullptr, stack_);
  }
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;
  ~MatchScratch() {
    pcre2_jit_stack_free(stack_);
    pcre2_match_context_free(context_);
    pcre2_match_data_free(data_);
  }

  pcre2_match_data* data() const { return data_; }
  pcre2_match_context* context() const { return context_; }

 private:
  pcre2_match_data* data_;
  pcre2_match_context* context_;
  pcre2_jit_stack* stack_;
};

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

}  // namespace

void Regex::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

Regex::Regex(std::string_view pattern) : pattern_(printable(pattern)) {
  const std::string translated = translate_to_pcre2(pattern);
  int code = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                            kOptions, &code, &offset, nullptr));
  if (code_ == nullptr) {
    throw UserError("regular expression \"{}\": {}", pattern_, error_text(code));
  }
  jit_ = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
}

std::optional<Regex::Match> Regex::find(std::string_view text, std::size_t from) const {
  thread_local const MatchScratch scratch;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data() == nullptr ? "" : text.data());
  const int found = jit_ ? pcre2_jit_match(code_.get(), subject, text.size(), from,
                                           PCRE2_NO_UTF_CHECK, scratch.data(), scratch.context())
                         : pcre2_match(code_.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                                       scratch.data(), scratch.context());
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0) {
    throw UserError("regular expression \"{}\" gave up on a text of {} bytes: {}", pattern_,
                    text.size(), error_text(found));
  }
  const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(scratch.data());
  // \K can put the start past the end; such a pattern splits nothing sensibly.
  if (offsets[0] > offsets[1] || offsets[0] < from) {
    throw UserError("regular expression \"{}\" moves its own start", pattern_);
  }
  return Match{offsets[0], offsets[1]};
}

std::size_t Regex::next_character(std::string_view text, std::size_t at) {
  return at < text.size() ? at + decode_utf8(text, at).length : at + 1;
}

}  // namespace millrace::text
