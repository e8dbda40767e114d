// One step's work as flat arrays: what the executor copies to the device and the ops read. The same
// on every rank of a replica, so that stages know each other's shapes without a message.
#pragma once

#include <cstdint>
#include <vector>

#include "core/batch/sequence.hpp"

namespace millrace {

// One token to be drawn. Row r of the logits belongs to samples[r].
struct Sample {
  const Sequence* sequence = nullptr;  // lives until this step's result has been applied
  std::int32_t output_index = 0;       // tokens drawn before this one, unresolved ones included
};

struct BatchPlan {
  std::int64_t step = 0;

  // [tokens], sequence after sequence; sequences with one token come first.
  std::vector<std::int32_t> tokens;
  // Where a token is still being drawn by a step in flight: the slot of its sequence (the device
  // keeps each slot's latest token), else -1. Empty when the scheduler's lookahead is 0.
  std::vector<std::int32_t> token_sources;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> slots;  // in the KV cache: block * block_size + position % block_size

  // [sequences]
  std::vector<std::int32_t> query_starts;  // [sequences + 1], into the arrays above
  std::vector<std::int32_t> kv_lengths;    // tokens in the cache once this step has written its own
  std::vector<std::int32_t> sequence_slots;  // Sequence::slot
  std::vector<std::int32_t> block_tables;    // [sequences, block_table_width], unused entries 0
  std::int32_t block_table_width = 0;        // blocks of the longest sequence in the batch
  std::int32_t decode_sequences = 0;         // how many lead with one token each
  std::int32_t max_query_length = 0;
  std::int32_t max_kv_length = 0;

  // [samples]
  std::vector<std::int32_t> logits_rows;  // into tokens: each sample's last token
  std::vector<Sample> samples;

  std::int32_t num_tokens() const { return static_cast<std::int32_t>(tokens.size()); }
  std::int32_t num_sequences() const { return static_cast<std::int32_t>(kv_lengths.size()); }
  std::int32_t num_samples() const { return static_cast<std::int32_t>(samples.size()); }
  bool empty() const { return tokens.empty(); }

  // Empties it, for sequences of at most `table_width` blocks each.
  void begin(std::int64_t of_step, std::int32_t table_width);
  // The sequence's next `count` tokens, which are known or, with `feeds_tokens`, being drawn. Those
  // with one token must come first.
  void add(const Sequence& sequence, std::int32_t count, std::int32_t block_size,
           bool feeds_tokens);
};

}  // namespace millrace
