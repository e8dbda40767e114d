// How large a rank's activations are. The transformer allocates by it and millrace-plan counts with
// it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/model/model_spec.hpp"
#include "core/model/partition.hpp"
#include "kernels/base/device.hpp"
#include "kernels/base/dtype.hpp"

namespace millrace {

// Rows whose logits are held at once: bounds the one workspace that is as wide as the vocabulary. A
// pass reads the output head once, so a GPU, whose steps are short, takes more rows at a time.
constexpr std::int64_t max_rows_per_pass(std::int64_t max_num_seqs, DeviceKind device) {
  return std::min<std::int64_t>(max_num_seqs, device == DeviceKind::cuda ? 1024 : 256);
}

// Elements of each of the transformer's workspaces.
struct WorkspaceShape {
  std::int64_t hidden = 0;  // [max_tokens, hidden]; the residual stream, norms and updates each
  std::int64_t hidden_copies = 0;  // that many of them
  std::int64_t wide = 0;   // a layer's widest rows: qkv, gate and up; the narrow token embedding
  std::int64_t inner = 0;  // attention's output per head, the MLP's inner activations
  // The widest rows that an fp8 product reads, as fp8, and their f32 scales; with fp8 weights.
  std::int64_t quantized = 0;
  std::int64_t scales = 0;
  std::int64_t head_rows = 0;  // [max_logits_rows, hidden]; last stage
  std::int64_t projected = 0;  // [max_logits_rows, embedding_size]; last stage, with projections
  std::int64_t logits = 0;     // [max_logits_rows, vocab_padded] f32; last stage

  // Of all of them, logits and scales in f32, quantized rows in bytes, the rest in `activation`.
  std::int64_t bytes(DType activation) const;
};

// For steps of at most `max_tokens` tokens, of which `max_logits_rows` ask for logits at once.
WorkspaceShape workspace_shape(const ModelSpec& spec, const RankSlices& slices,
                               std::int64_t max_tokens, std::int64_t max_logits_rows);

}  // namespace millrace
