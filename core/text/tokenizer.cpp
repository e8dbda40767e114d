// Encoding and decoding: text through the parts in order.
#include "core/text/tokenizer.hpp"

#include <utility>

#include "core/text/tokenizer_parts.hpp"
#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace text {

void Vocabulary::add(std::string_view name, int64_t id, std::string_view source) {
  if (id < 0 || id > kMaxTokenId) {
    throw UserError("{}: token \"{}\" has the impossible id {}", source, printable(name), id);
  }
  const auto index = static_cast<std::size_t>(id);
  if (index >= names.size()) names.resize(index + 1);
  names[index] = name;
  ids.insert(name, static_cast<int32_t>(id));
}

ScratchPool::Lease::Lease(ScratchPool& pool) : pool_(pool) {
  const std::lock_guard lock(pool_.mutex_);
  if (pool_.free_.empty()) {
    scratch_ = std::make_unique<EncodeScratch>();
  } else {
    scratch_ = std::move(pool_.free_.back());
    pool_.free_.pop_back();
  }
}

ScratchPool::Lease::~Lease() {
  const std::lock_guard lock(pool_.mutex_);
  pool_.free_.push_back(std::move(scratch_));
}

std::string_view TokenizerParts::decoder_input(int32_t id) const {
  const auto found = decoded_names.find(id);
  return found != decoded_names.end() ? found->second : names[static_cast<std::size_t>(id)];
}

void adopt_vocabulary(TokenizerParts& parts, const Vocabulary& vocabulary,
                      const std::vector<AddedToken>& added) {
  parts.names = vocabulary.names;
  parts.ids = vocabulary.ids;
  for (const AddedToken& token : added) {
    const auto index = static_cast<std::size_t>(token.id);
    if (index >= parts.names.size()) parts.names.resize(index + 1);
    parts.names[index] = token.content;
    parts.ids.insert(token.content, token.id);
  }
  parts.special.assign(parts.names.size(), false);
  parts.skipped_special.assign(parts.names.size(), false);
  for (const AddedToken& token : added) {
    const auto index = static_cast<std::size_t>(token.id);
    NormalizedText spelling{token.content, true};
    if (token.normalized) normalize(parts.normalizer, spelling);
    (token.normalized ? parts.normalized_added : parts.raw_added).add(token, spelling.text);
    if (spelling.text != token.content) parts.decoded_names[token.id] = spelling.text;
    if (token.special) parts.special[index] = true;
  }
  // Decoding looks a special token up by what the decoder is given for it.
  for (std::size_t index = 0; index < parts.names.size(); ++index) {
    const auto id = static_cast<int32_t>(index);
    if (!parts.has(id)) continue;
    const int32_t named = parts.ids.find(parts.decoder_input(id));
    parts.skipped_special[index] = named >= 0 && parts.special[static_cast<std::size_t>(named)];
  }
}

namespace {

void encode_section(const TokenizerParts& parts, std::string_view section, bool at_start,
                    EncodeScratch& scratch, std::vector<int32_t>& out) {
  NormalizedText& normalized = scratch.normalized;
  normalized.text = section;
  normalized.at_start = at_start;
  normalize(parts.normalizer, normalized);
  parts.normalized_added.split(normalized.text, scratch.normalized_sections);
  for (const AddedTokenMatcher::Section& part : scratch.normalized_sections) {
    if (part.id >= 0) {
      out.push_back(part.id);
      continue;
    }
    PreTokenizedText& cut = scratch.cut;
    cut.text.assign(normalized.text, part.begin, part.end - part.begin);
    cut.pieces.assign(1, {0, cut.text.size(), normalized.at_start && part.begin == 0});
    pre_tokenize(parts.pre_tokenizer, cut);
    for (const PreTokenizedText::Piece& piece : cut.pieces) {
      parts.model->encode(std::string_view(cut.text).substr(piece.begin, piece.end - piece.begin),
                          cut.byte_level, scratch.bpe, out);
    }
  }
}

}  // namespace
}  // namespace text

Tokenizer::Tokenizer(std::unique_ptr<const text::TokenizerParts> parts)
    : parts_(std::move(parts)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  const text::ScratchPool::Lease lease(parts_->scratch);
  text::EncodeScratch& scratch = *lease;
  if (!text::is_valid_utf8(text)) {
    scratch.valid.clear();
    text::append_replacing_invalid(scratch.valid, text);
    text = scratch.valid;
  }
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 4 + 8);
  parts_->raw_added.split(text, scratch.sections);
  for (const text::AddedTokenMatcher::Section& section : scratch.sections) {
    if (section.id >= 0) {
      ids.push_back(section.id);
    } else {
      text::encode_section(*parts_, text.substr(section.begin, section.end - section.begin),
                           section.begin == 0, scratch, ids);
    }
  }
  if (parts_->frame.size() == 1 && parts_->frame[0] == text::TokenizerParts::kText) return ids;
  std::vector<int32_t> framed;
  framed.reserve(ids.size() + parts_->frame.size());
  for (const int32_t piece : parts_->frame) {
    if (piece == text::TokenizerParts::kText) {
      framed.insert(framed.end(), ids.begin(), ids.end());
    } else if (add_special_tokens) {
      framed.push_back(piece);
    }
  }
  return framed;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  text::DecodeStream stream(parts_->decoder);
  std::string out;
  for (const int32_t id : ids) {
    if (!parts_->has(id)) continue;
    if (skip_special_tokens && parts_->skipped_special[static_cast<std::size_t>(id)]) continue;
    stream.push(parts_->decoder_input(id), out);
  }
  stream.finish(out);
  return out;
}

std::string Tokenizer::token_bytes(int32_t id) const {
  return parts_->has(id) ? text::decode_alone(parts_->decoder, parts_->decoder_input(id)) : "";
}

std::optional<std::string_view> Tokenizer::token_name(int32_t id) const {
  if (!parts_->has(id)) return std::nullopt;
  return parts_->names[static_cast<std::size_t>(id)];
}

std::optional<int32_t> Tokenizer::token_id(std::string_view name) const {
  const int32_t id = parts_->ids.find(name);
  return id < 0 ? std::nullopt : std::optional(id);
}

bool Tokenizer::is_special(int32_t id) const {
  return parts_->has(id) && parts_->special[static_cast<std::size_t>(id)];
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(parts_->names.size()); }
std::optional<int32_t> Tokenizer::bos_id() const { return parts_->bos; }
std::optional<int32_t> Tokenizer::eos_id() const { return parts_->eos; }

}  // namespace millrace
