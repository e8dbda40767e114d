// A BatchPlan's arrays where the ops can read them. Plans of equal padded sizes lie at equal
// addresses, so that a captured graph serves all of them.
#pragma once

#include <cstdint>

#include "core/batch/batch_plan.hpp"
#include "core/engine/staged_upload.hpp"
#include "kernels/attention.hpp"

namespace millrace {

struct BatchLimits {
  std::int64_t tokens = 0;               // of one step
  std::int64_t sequences = 0;            // of one step
  std::int64_t blocks_per_sequence = 0;  // of the longest sequence, padded
  std::int64_t block_size = 0;           // tokens
};

class DeviceBatch {
 public:
  DeviceBatch(const BatchLimits& limits, Device device);

  // Copies the plan; it may change as soon as this returns.
  void upload(const BatchPlan& plan, Stream stream);

  // The same for a plan of decode tokens alone that all draw, padded to `sequences` with places
  // that read no key and write none, and with block tables of `table_width`: all plans padded alike
  // lie at the same addresses and have the same bounds.
  void upload_padded(const BatchPlan& plan, std::int64_t sequences, std::int64_t table_width,
                     Stream stream);

  std::int64_t num_tokens() const { return tokens_.size(0); }
  const TensorView& tokens() const { return tokens_; }  // [tokens] i32
  // [tokens] i32, BatchPlan::token_sources; empty when every token is known
  const TensorView& token_sources() const { return token_sources_; }
  const TensorView& positions() const { return positions_; }      // [tokens] i32
  const TensorView& slots() const { return slots_; }              // [tokens] i32, in the KV cache
  const TensorView& logits_rows() const { return logits_rows_; }  // [samples] i32
  // [samples] i32: the sequence slot of each sample
  const TensorView& sample_slots() const { return sample_slots_; }
  const AttentionBatch& attention() const { return attention_; }

 private:
  void place_arrays(const BatchPlan& plan, std::int64_t padding, std::int64_t table_width,
                    Stream stream);

  BatchLimits limits_;
  StagedUpload staging_;
  TensorView tokens_, token_sources_, positions_, slots_, logits_rows_, sample_slots_;
  AttentionBatch attention_;
};

}  // namespace millrace
