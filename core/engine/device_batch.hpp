// A BatchPlan's arrays where the ops can read them. Every array has a fixed place, sized for the
// largest plan, so that a captured graph finds the next plan where it found the last.
#pragma once

#include <cstdint>

#include "core/batch/batch_plan.hpp"
#include "kernels/attention.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

struct BatchLimits {
  std::int64_t tokens = 0;               // of one step
  std::int64_t sequences = 0;            // of one step
  std::int64_t blocks_per_sequence = 0;  // of the longest sequence
};

class DeviceBatch {
 public:
  DeviceBatch(const BatchLimits& limits, Device device);

  // The plan may change once the stream has come this far.
  void upload(const BatchPlan& plan, Stream stream);

  std::int64_t num_tokens() const { return tokens_.size(0); }
  const TensorView& tokens() const { return tokens_; }            // [tokens] i32
  const TensorView& positions() const { return positions_; }      // [tokens] i32
  const TensorView& slots() const { return slots_; }              // [tokens] i32, in the KV cache
  const TensorView& logits_rows() const { return logits_rows_; }  // [samples] i32
  const AttentionBatch& attention() const { return attention_; }

 private:
  Tensor token_memory_, position_memory_, slot_memory_, row_memory_;
  Tensor start_memory_, length_memory_, table_memory_;
  TensorView tokens_, positions_, slots_, logits_rows_;
  AttentionBatch attention_;
};

}  // namespace millrace
