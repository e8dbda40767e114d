// The incremental decoder of one sequence.
#include "core/text/detokenizer.hpp"

#include "core/text/tokenizer.hpp"
#include "core/text/tokenizer_parts.hpp"

namespace millrace {

struct Detokenizer::State {
  const text::TokenizerParts& parts;
  bool skip_special_tokens;
  text::DecodeStream stream;
};

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens)
    : state_(new State{*tokenizer.parts_, skip_special_tokens,
                       text::DecodeStream(tokenizer.parts_->decoder)}) {}
Detokenizer::Detokenizer(Detokenizer&&) noexcept = default;
Detokenizer& Detokenizer::operator=(Detokenizer&&) noexcept = default;
Detokenizer::~Detokenizer() = default;

std::string Detokenizer::push(int32_t token) {
  std::string out;
  const text::TokenizerParts& parts = state_->parts;
  if (!parts.has(token)) return out;
  if (state_->skip_special_tokens && parts.skipped_special[static_cast<std::size_t>(token)]) {
    return out;
  }
  state_->stream.push(parts.decoder_input(token), out);
  return out;
}

std::string Detokenizer::finish() {
  std::string out;
  state_->stream.finish(out);
  return out;
}

}  // namespace millrace
