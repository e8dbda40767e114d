// The decoder stages.
//
// After a ByteLevel or Fuse step there is only one token, which streams on in parts ("fused"). A
// stage behind them that can only work on a whole token is given it whole: Collect waits for the
// end.
#include "core/text/decoder.hpp"

#include <charconv>
#include <optional>
#include <utility>

#include "core/text/byte_alphabet.hpp"
#include "core/text/unicode.hpp"

namespace millrace::text {

class DecodeStage {
 public:
  explicit DecodeStage(std::unique_ptr<DecodeStage> next) : next_(std::move(next)) {}
  virtual ~DecodeStage() = default;
  virtual void push(std::string_view token, std::string& out) = 0;
  // Passes on what was held back, then finishes the stages behind.
  virtual void finish(std::string& out) { next_->finish(out); }

 protected:
  const std::unique_ptr<DecodeStage> next_;
};

namespace {

// The bytes of a <0xHH> token.
std::optional<char> fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  uint8_t byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  if (error != std::errc() || end != token.data() + 5) return std::nullopt;
  return static_cast<char>(byte);
}

std::string bytes_or_itself(std::string_view token) {
  return bytes_of(token).value_or(std::string(token));
}

std::string replace_text(std::string_view text, std::string_view from, std::string_view to) {
  return replace_all({.pattern = std::string(from), .regex = nullptr, .content = std::string(to)},
                     text);
}

// How many copies of `content` stand at the front (or back) of `text`, at most `limit`.
std::size_t copies_in_front(std::string_view text, std::string_view content, std::size_t limit) {
  std::size_t count = 0;
  while (count < limit && text.starts_with(content)) {
    text.remove_prefix(content.size());
    ++count;
  }
  return count;
}
std::size_t copies_at_back(std::string_view text, std::string_view content, std::size_t limit) {
  std::size_t count = 0;
  while (count < limit && text.ends_with(content)) {
    text.remove_suffix(content.size());
    ++count;
  }
  return count;
}

class Output : public DecodeStage {
 public:
  Output() : DecodeStage(nullptr) {}
  void push(std::string_view token, std::string& out) override { out.append(token); }
  void finish(std::string&) override {}
};

class Collect : public DecodeStage {
 public:
  using DecodeStage::DecodeStage;
  void push(std::string_view token, std::string&) override { all_.append(token); }
  void finish(std::string& out) override {
    next_->push(all_, out);
    next_->finish(out);
  }

 private:
  std::string all_;
};

class ByteLevelStage : public DecodeStage {
 public:
  using DecodeStage::DecodeStage;
  void push(std::string_view token, std::string& out) override {
    held_.append(bytes_or_itself(token));
    // Only the last character can be incomplete, and only by up to three bytes.
    std::size_t certain = held_.size();
    for (std::size_t back = 1; back <= 3 && back <= held_.size(); ++back) {
      const std::size_t at = held_.size() - back;
      if ((static_cast<unsigned char>(held_[at]) & 0xC0) == 0x80) continue;
      if (scan_utf8(held_, at).truncated) certain = at;
      break;
    }
    if (certain > 0) pass_on(certain, out);
  }
  void finish(std::string& out) override {
    pass_on(held_.size(), out);
    next_->finish(out);
  }

 private:
  void pass_on(std::size_t size, std::string& out) {
    text_.clear();
    append_replacing_invalid(text_, std::string_view(held_).substr(0, size));
    held_.erase(0, size);
    next_->push(text_, out);
  }

  std::string held_;
  std::string text_;
};

class ReplaceStage : public DecodeStage {
 public:
  ReplaceStage(Replace step, std::unique_ptr<DecodeStage> next)
      : DecodeStage(std::move(next)), step_(std::move(step)) {}
  void push(std::string_view token, std::string& out) override {
    next_->push(replace_all(step_, token), out);
  }

 private:
  const Replace step_;
};

// Replaces literal text in a token that arrives in parts: a match may span two.
class FusedReplaceStage : public DecodeStage {
 public:
  FusedReplaceStage(Replace step, std::unique_ptr<DecodeStage> next)
      : DecodeStage(std::move(next)), step_(std::move(step)) {}
  void push(std::string_view part, std::string& out) override {
    held_.append(part);
    std::string certain;
    std::size_t done = 0;
    for (std::size_t at = held_.find(step_.pattern); at != std::string::npos;
         at = held_.find(step_.pattern, done)) {
      certain.append(held_, done, at - done).append(step_.content);
      done = at + step_.pattern.size();
    }
    // The longest end that could be the beginning of a match.
    std::size_t keep = std::min(step_.pattern.size() - 1, held_.size() - done);
    while (keep > 0 && !std::string_view(step_.pattern)
                            .starts_with(std::string_view(held_).substr(held_.size() - keep))) {
      --keep;
    }
    certain.append(held_, done, held_.size() - done - keep);
    held_.erase(0, held_.size() - keep);
    next_->push(certain, out);
  }
  void finish(std::string& out) override {
    next_->push(held_, out);
    next_->finish(out);
  }

 private:
  const Replace step_;
  std::string held_;
};

class ByteFallbackStage : public DecodeStage {
 public:
  using DecodeStage::DecodeStage;
  void push(std::string_view token, std::string& out) override {
    if (const std::optional<char> byte = fallback_byte(token)) {
      run_.push_back(*byte);
      return;
    }
    end_run(out);
    next_->push(token, out);
  }
  void finish(std::string& out) override {
    end_run(out);
    next_->finish(out);
  }

 private:
  // The run is judged as a whole, so nothing of it is certain before its end.
  void end_run(std::string& out) {
    if (run_.empty()) return;
    if (is_valid_utf8(run_)) {
      next_->push(run_, out);
    } else {
      for (std::size_t i = 0; i < run_.size(); ++i) next_->push(kReplacementUtf8, out);
    }
    run_.clear();
  }

  std::string run_;
};

class FuseStage : public DecodeStage {
 public:
  using DecodeStage::DecodeStage;
  void push(std::string_view token, std::string& out) override { next_->push(token, out); }
};

class StripStage : public DecodeStage {
 public:
  StripStage(StripDecoder step, std::unique_ptr<DecodeStage> next)
      : DecodeStage(std::move(next)), step_(std::move(step)) {}
  void push(std::string_view token, std::string& out) override {
    const std::size_t width = step_.content.size();
    token.remove_prefix(width * copies_in_front(token, step_.content, step_.start));
    token.remove_suffix(width * copies_at_back(token, step_.content, step_.stop));
    next_->push(token, out);
  }

 private:
  const StripDecoder step_;
};

class FusedStripStage : public DecodeStage {
 public:
  FusedStripStage(StripDecoder step, std::unique_ptr<DecodeStage> next)
      : DecodeStage(std::move(next)), step_(std::move(step)) {}
  void push(std::string_view part, std::string& out) override {
    const std::size_t width = step_.content.size();
    const std::size_t dropped = copies_in_front(part, step_.content, step_.start);
    part.remove_prefix(dropped * width);
    step_.start = part.empty() ? step_.start - dropped : 0;
    if (part.empty()) return;
    held_.append(part);
    const std::size_t keep = copies_at_back(held_, step_.content, step_.stop) * width;
    next_->push(std::string_view(held_).substr(0, held_.size() - keep), out);
    held_.erase(0, held_.size() - keep);
  }

 private:
  StripDecoder step_;  // `start` counts down
  std::string held_;   // at the end this is what `stop` drops
};

class MetaspaceStage : public DecodeStage {
 public:
  MetaspaceStage(MetaspaceDecoder step, bool fused, std::unique_ptr<DecodeStage> next)
      : DecodeStage(std::move(next)), step_(std::move(step)), fused_(fused) {}
  void push(std::string_view token, std::string& out) override {
    next_->push(replace_text(token, step_.replacement, first_ && step_.drop_in_first ? "" : " "),
                out);
    first_ = first_ && fused_;
  }

 private:
  const MetaspaceDecoder step_;
  const bool fused_;
  bool first_ = true;
};

class SuffixStage : public DecodeStage {
 public:
  SuffixStage(SuffixDecoder step, std::unique_ptr<DecodeStage> next)
      : DecodeStage(std::move(next)), step_(std::move(step)) {}
  void push(std::string_view token, std::string& out) override {
    if (held_) next_->push(replace_text(*held_, step_.suffix, " "), out);
    held_ = token;
  }
  void finish(std::string& out) override {
    if (held_) next_->push(replace_text(*held_, step_.suffix, ""), out);
    next_->finish(out);
  }

 private:
  const SuffixDecoder step_;
  std::optional<std::string> held_;  // whether it is the last token is not known yet
};

class JoinStage : public DecodeStage {
 public:
  using DecodeStage::DecodeStage;
  void push(std::string_view token, std::string& out) override {
    if (!first_) next_->push(" ", out);
    first_ = false;
    next_->push(token, out);
  }

 private:
  bool first_ = true;
};

// The stage for `step` before `next`.
std::unique_ptr<DecodeStage> make_stage(const DecoderStep& step, bool fused,
                                        std::unique_ptr<DecodeStage> next) {
  const auto collected = [&](std::unique_ptr<DecodeStage> stage) {
    return fused ? std::make_unique<Collect>(std::move(stage)) : std::move(stage);
  };
  struct Maker {
    bool fused;
    std::unique_ptr<DecodeStage>& next;
    decltype(collected)& collect;

    std::unique_ptr<DecodeStage> operator()(ByteLevelDecoder) const {
      return collect(std::make_unique<ByteLevelStage>(std::move(next)));
    }
    std::unique_ptr<DecodeStage> operator()(const Replace& replace) const {
      if (fused && replace.regex == nullptr) {
        return std::make_unique<FusedReplaceStage>(replace, std::move(next));
      }
      return collect(std::make_unique<ReplaceStage>(replace, std::move(next)));
    }
    std::unique_ptr<DecodeStage> operator()(ByteFallbackDecoder) const {
      return collect(std::make_unique<ByteFallbackStage>(std::move(next)));
    }
    std::unique_ptr<DecodeStage> operator()(Fuse) const {
      return std::make_unique<FuseStage>(std::move(next));
    }
    std::unique_ptr<DecodeStage> operator()(const StripDecoder& strip) const {
      if (fused) return std::make_unique<FusedStripStage>(strip, std::move(next));
      return std::make_unique<StripStage>(strip, std::move(next));
    }
    std::unique_ptr<DecodeStage> operator()(const MetaspaceDecoder& metaspace) const {
      return std::make_unique<MetaspaceStage>(metaspace, fused, std::move(next));
    }
    std::unique_ptr<DecodeStage> operator()(const SuffixDecoder& suffix) const {
      return collect(std::make_unique<SuffixStage>(suffix, std::move(next)));
    }
    std::unique_ptr<DecodeStage> operator()(JoinWithSpaces) const {
      return std::make_unique<JoinStage>(std::move(next));
    }
  };
  return std::visit(Maker{fused, next, collected}, step);
}

bool fuses(const DecoderStep& step) {
  return std::holds_alternative<ByteLevelDecoder>(step) || std::holds_alternative<Fuse>(step);
}

}  // namespace

DecodeStream::DecodeStream(const std::vector<DecoderStep>& steps) {
  std::vector<bool> fused_before(steps.size() + 1, false);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    fused_before[i + 1] = fused_before[i] || fuses(steps[i]);
  }
  first_ = std::make_unique<Output>();
  for (std::size_t i = steps.size(); i-- > 0;) {
    first_ = make_stage(steps[i], fused_before[i], std::move(first_));
  }
}

DecodeStream::DecodeStream(DecodeStream&&) noexcept = default;
DecodeStream& DecodeStream::operator=(DecodeStream&&) noexcept = default;
DecodeStream::~DecodeStream() = default;

void DecodeStream::push(std::string_view token, std::string& out) { first_->push(token, out); }
void DecodeStream::finish(std::string& out) { first_->finish(out); }

std::string decode_alone(const std::vector<DecoderStep>& steps, std::string_view token) {
  struct Step {
    std::string token;
    void operator()(ByteLevelDecoder) { token = bytes_or_itself(token); }
    void operator()(const Replace& replace) { token = replace_all(replace, token); }
    void operator()(ByteFallbackDecoder) {
      if (const std::optional<char> byte = fallback_byte(token)) token.assign(1, *byte);
    }
    void operator()(Fuse) {}
    void operator()(const StripDecoder&) {}
    void operator()(const MetaspaceDecoder& metaspace) {
      token = replace_text(token, metaspace.replacement, " ");
    }
    void operator()(const SuffixDecoder& suffix) {
      token = replace_text(token, suffix.suffix, " ");
    }
    void operator()(JoinWithSpaces) {}
  } step{std::string(token)};
  for (const DecoderStep& one : steps) {
    std::visit(step, one);
    // A byte may be half a character: nothing behind this could read it.
    if (!is_valid_utf8(step.token)) break;
  }
  return std::move(step.token);
}

}  // namespace millrace::text
