// Byte-pair encoding: a piece of text becomes characters, then the best-ranked adjacent pair merges
// (the leftmost of equals) until none does. Sennrich et al. 2016; SentencePiece's variant is the
// same with ranks made from scores.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/merge_table.hpp"
#include "core/text/string_table.hpp"

namespace millrace::text {

struct BpeSettings {
  std::optional<std::string> unk_token;
  std::string continuing_subword_prefix;  // before every character but a piece's first
  std::string end_of_word_suffix;         // after a piece's last character
  bool fuse_unk = false;                  // neighbouring unknown characters become one unk_token
  bool byte_fallback = false;             // an unknown character becomes its bytes' <0xHH> tokens
  bool ignore_merges = false;             // a piece that is itself a token is not taken apart
};

// What encoding writes to besides its result; one per thread at a time. Reuse keeps its cache warm.
class BpeScratch {
 public:
  BpeScratch() : cache_(kCacheSlots) {}

 private:
  friend class Bpe;

  // Recently seen pieces and their tokens, direct-mapped. One slot is one cache line.
  struct alignas(64) CacheSlot {
    static constexpr std::size_t kMaxBytes = 30;
    static constexpr std::size_t kMaxTokens = 8;
    uint8_t tag = 0;  // length and kind of the piece; 0: free
    uint8_t tokens = 0;
    std::array<char, kMaxBytes> key;
    std::array<int32_t, kMaxTokens> ids;

    static uint8_t tag_of(std::string_view piece, bool byte_level) {
      return static_cast<uint8_t>(piece.size() << 1 | static_cast<std::size_t>(byte_level));
    }
  };
  static_assert(sizeof(CacheSlot) == 64);
  static constexpr std::size_t kCacheSlots = std::size_t{1} << 15;

  struct Symbol {
    int32_t id;
    int32_t previous, next;  // -1 at the ends
  };
  struct Candidate {
    uint32_t rank;
    int32_t position;
    int32_t token;
    // For std::push_heap, which keeps the largest on top.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };

  std::vector<CacheSlot> cache_;
  std::vector<int32_t> ids_;
  std::vector<Merge> pairs_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
  std::string mapped_;
};

class Bpe {
 public:
  // `vocabulary`: token -> id; `tokens`: id -> token, empty where there is none; both valid UTF-8.
  // UserError: an unk_token that is no token.
  Bpe(BpeSettings settings, StringTable vocabulary, const std::vector<std::string>& tokens,
      MergeTable merges);

  // Appends the tokens of one piece of valid UTF-8. `byte_level`: its bytes stand for their
  // characters in the byte alphabet (core/text/byte_alphabet.hpp).
  void encode(std::string_view piece, bool byte_level, BpeScratch& scratch,
              std::vector<int32_t>& out) const;

 private:
  void encode_word(std::string_view word, bool byte_level, bool may_be_whole, BpeScratch& scratch,
                   std::vector<int32_t>& out) const;
  bool whole_token(std::string_view word, bool byte_level, std::vector<int32_t>& out) const;
  void split_into_ids(std::string_view word, bool byte_level, BpeScratch& scratch) const;
  void split_characters(std::string_view word, std::vector<int32_t>& ids) const;
  void merge_short(BpeScratch& scratch) const;
  void merge_long(BpeScratch& scratch) const;

  BpeSettings settings_;
  StringTable vocabulary_;
  StringTable byte_vocabulary_;  // the same with byte-level tokens spelled in bytes
  MergeTable merges_;
  std::array<int32_t, 256> byte_ids_;      // a byte's character in the byte alphabet, or kAbsent
  std::array<int32_t, 256> fallback_ids_;  // <0xHH>, or kAbsent
  int32_t unk_id_ = StringTable::kAbsent;
  // No merge crosses from another character to a "▁", so a piece can be cut there first.
  bool words_begin_with_metaspace_ = false;
};

}  // namespace millrace::text
