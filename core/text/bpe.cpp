// The BPE merge loops and the piece cache.
#include "core/text/bpe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/text/byte_alphabet.hpp"
#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"

namespace millrace::text {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // "▁"
// Above this a heap beats scanning for the best pair.
constexpr std::size_t kShortWord = 48;

// Whether "▁" stands anywhere but at the beginning of `token`, leading "▁"s aside.
bool has_inner_metaspace(std::string_view token) {
  while (token.starts_with(kMetaspace)) token.remove_prefix(kMetaspace.size());
  return token.find(kMetaspace) != std::string_view::npos;
}

}  // namespace

Bpe::Bpe(BpeSettings settings, StringTable vocabulary, const std::vector<std::string>& tokens,
         MergeTable merges)
    : settings_(std::move(settings)),
      vocabulary_(std::move(vocabulary)),
      merges_(std::move(merges)) {
  for (const std::string& token : tokens) {
    if (token.empty()) continue;
    if (const std::optional<std::string> bytes = bytes_of(token)) {
      byte_vocabulary_.insert(*bytes, vocabulary_.find(token));
    }
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = byte_vocabulary_.find(std::string(1, static_cast<char>(byte)));
    fallback_ids_[byte] = vocabulary_.find(fmt::format("<0x{:02X}>", byte));
  }
  if (settings_.unk_token) {
    unk_id_ = vocabulary_.find(*settings_.unk_token);
    if (unk_id_ == StringTable::kAbsent) {
      throw UserError("tokenizer: unk_token \"{}\" is not in the vocabulary",
                      printable(*settings_.unk_token));
    }
  }
  words_begin_with_metaspace_ = settings_.continuing_subword_prefix.empty() &&
                                settings_.end_of_word_suffix.empty() &&
                                vocabulary_.find(kMetaspace) != StringTable::kAbsent;
  merges_.for_each([&](const Merge& merge) {
    if (words_begin_with_metaspace_) {
      words_begin_with_metaspace_ =
          !has_inner_metaspace(tokens[static_cast<std::size_t>(merge.token)]);
    }
  });
}

void Bpe::encode(std::string_view piece, bool byte_level, BpeScratch& scratch,
                 std::vector<int32_t>& out) const {
  if (byte_level || !words_begin_with_metaspace_) {
    return encode_word(piece, byte_level, true, scratch, out);
  }
  if (settings_.ignore_merges && whole_token(piece, byte_level, out)) return;
  std::size_t begin = 0;
  while (begin < piece.size()) {
    std::size_t end = begin;
    while (piece.compare(end, kMetaspace.size(), kMetaspace) == 0) end += kMetaspace.size();
    end = std::min(piece.find(kMetaspace, end), piece.size());
    encode_word(piece.substr(begin, end - begin), byte_level, false, scratch, out);
    begin = end;
  }
}

void Bpe::encode_word(std::string_view word, bool byte_level, bool may_be_whole,
                      BpeScratch& scratch, std::vector<int32_t>& out) const {
  using Slot = BpeScratch::CacheSlot;
  Slot* slot = nullptr;
  if (word.size() <= Slot::kMaxBytes) {
    slot = &scratch.cache_[(hash_bytes(word) + byte_level) % BpeScratch::kCacheSlots];
    if (slot->tag == Slot::tag_of(word, byte_level) &&
        std::string_view(slot->key.data(), word.size()) == word) {
      out.insert(out.end(), slot->ids.begin(), slot->ids.begin() + slot->tokens);
      return;
    }
  }
  const std::size_t before = out.size();
  if (!(may_be_whole && settings_.ignore_merges && whole_token(word, byte_level, out))) {
    split_into_ids(word, byte_level, scratch);
    scratch.ids_.size() <= kShortWord ? merge_short(scratch) : merge_long(scratch);
    out.insert(out.end(), scratch.ids_.begin(), scratch.ids_.end());
  }
  const std::size_t count = out.size() - before;
  if (slot != nullptr && !word.empty() && count <= Slot::kMaxTokens) {
    slot->tag = Slot::tag_of(word, byte_level);
    slot->tokens = static_cast<uint8_t>(count);
    std::copy(word.begin(), word.end(), slot->key.begin());
    std::copy(out.begin() + static_cast<std::ptrdiff_t>(before), out.end(), slot->ids.begin());
  }
}

bool Bpe::whole_token(std::string_view word, bool byte_level, std::vector<int32_t>& out) const {
  const int32_t id = (byte_level ? byte_vocabulary_ : vocabulary_).find(word);
  if (id == StringTable::kAbsent) return false;
  out.push_back(id);
  return true;
}

void Bpe::split_into_ids(std::string_view word, bool byte_level, BpeScratch& scratch) const {
  std::vector<int32_t>& ids = scratch.ids_;
  ids.clear();
  if (!byte_level) return split_characters(word, ids);
  if (settings_.continuing_subword_prefix.empty() && settings_.end_of_word_suffix.empty()) {
    for (const char byte : word) {
      const int32_t id = byte_ids_[static_cast<unsigned char>(byte)];
      if (id == StringTable::kAbsent) break;
      ids.push_back(id);
    }
    if (ids.size() == word.size()) return;
    ids.clear();
  }
  // A vocabulary without all 256 bytes, or with affixes: spell the characters out.
  scratch.mapped_.clear();
  append_in_byte_alphabet(scratch.mapped_, word);
  split_characters(scratch.mapped_, ids);
}

void Bpe::split_characters(std::string_view word, std::vector<int32_t>& ids) const {
  // The unk_token is written when the next known character or the end comes, as Hugging Face does;
  // bytes of a fallback in between thus come before it.
  bool pending_unknown = false;
  const auto flush_unknown = [&] {
    if (pending_unknown) ids.push_back(unk_id_);
    pending_unknown = false;
  };
  std::string affixed;
  for (std::size_t at = 0; at < word.size();) {
    const uint32_t length = decode_utf8(word, at).length;
    std::string_view character = word.substr(at, length);
    const bool prefix = at > 0 && !settings_.continuing_subword_prefix.empty();
    at += length;
    const bool suffix = at == word.size() && !settings_.end_of_word_suffix.empty();
    if (prefix || suffix) {
      affixed = prefix ? settings_.continuing_subword_prefix : "";
      affixed.append(character);
      if (suffix) affixed.append(settings_.end_of_word_suffix);
      character = affixed;
    }
    if (const int32_t id = vocabulary_.find(character); id != StringTable::kAbsent) {
      flush_unknown();
      ids.push_back(id);
      continue;
    }
    const auto fallback = [&](char byte) {
      return fallback_ids_[static_cast<unsigned char>(byte)];
    };
    if (settings_.byte_fallback && std::all_of(character.begin(), character.end(), [&](char byte) {
          return fallback(byte) != StringTable::kAbsent;
        })) {
      for (const char byte : character) ids.push_back(fallback(byte));
      continue;
    }
    // Without an unk_token an unknown character is dropped.
    if (unk_id_ == StringTable::kAbsent) continue;
    if (!settings_.fuse_unk) flush_unknown();
    pending_unknown = true;
  }
  flush_unknown();
}

void Bpe::merge_short(BpeScratch& scratch) const {
  std::vector<int32_t>& ids = scratch.ids_;
  std::vector<Merge>& pairs = scratch.pairs_;  // pairs[i] merges ids[i] and ids[i + 1]
  std::size_t count = ids.size();
  if (count < 2) return;
  pairs.resize(count - 1);
  for (std::size_t i = 0; i + 1 < count; ++i) pairs[i] = merges_.find(ids[i], ids[i + 1]);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == kNoMerge) break;
    ids[best] = pairs[best].token;
    --count;
    std::copy(ids.begin() + static_cast<std::ptrdiff_t>(best) + 2,
              ids.begin() + static_cast<std::ptrdiff_t>(count) + 1,
              ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    if (best + 1 < count) {
      std::copy(pairs.begin() + static_cast<std::ptrdiff_t>(best) + 1,
                pairs.begin() + static_cast<std::ptrdiff_t>(count),
                pairs.begin() + static_cast<std::ptrdiff_t>(best));
      pairs[best] = merges_.find(ids[best], ids[best + 1]);
    }
    if (best > 0) pairs[best - 1] = merges_.find(ids[best - 1], ids[best]);
  }
  ids.resize(count);
}

void Bpe::merge_long(BpeScratch& scratch) const {
  auto& symbols = scratch.symbols_;
  auto& heap = scratch.heap_;
  const auto count = static_cast<int32_t>(scratch.ids_.size());
  const auto at = [&](int32_t i) -> BpeScratch::Symbol& {
    return symbols[static_cast<std::size_t>(i)];
  };
  symbols.resize(scratch.ids_.size());
  for (int32_t i = 0; i < count; ++i) {
    at(i) = {scratch.ids_[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : -1};
  }
  heap.clear();
  const auto candidate = [&](int32_t left) -> std::optional<BpeScratch::Candidate> {
    if (left < 0 || at(left).next < 0) return std::nullopt;
    const Merge merge = merges_.find(at(left).id, at(at(left).next).id);
    if (merge.rank == kNoMerge) return std::nullopt;
    return BpeScratch::Candidate{merge.rank, left, merge.token};
  };
  const auto push = [&](int32_t left) {
    if (const auto found = candidate(left)) {
      heap.push_back(*found);
      std::push_heap(heap.begin(), heap.end());
    }
  };
  for (int32_t i = 0; i + 1 < count; ++i) {
    if (const auto found = candidate(i)) heap.push_back(*found);
  }
  std::make_heap(heap.begin(), heap.end());
  constexpr int32_t kRemoved = -1;
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const BpeScratch::Candidate best = heap.back();
    heap.pop_back();
    if (at(best.position).id == kRemoved) continue;
    // An entry is stale when its pair has changed since.
    const auto now = candidate(best.position);
    if (!now || now->rank != best.rank || now->token != best.token) continue;
    const int32_t right = at(best.position).next;
    at(best.position).id = best.token;
    at(best.position).next = at(right).next;
    if (at(right).next >= 0) at(at(right).next).previous = best.position;
    at(right).id = kRemoved;
    push(at(best.position).previous);
    push(best.position);
  }
  scratch.ids_.clear();
  for (int32_t i = 0; i >= 0 && count > 0; i = at(i).next) scratch.ids_.push_back(at(i).id);
}

}  // namespace millrace::text
