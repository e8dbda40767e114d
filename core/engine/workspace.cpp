#include "core/engine/workspace.hpp"

#include <algorithm>

namespace millrace {

std::int64_t WorkspaceShape::bytes(DType activation) const {
  const std::int64_t elements = hidden * hidden_copies + wide + inner + head_rows + projected;
  return elements * static_cast<std::int64_t>(size_of(activation)) + quantized +
         (logits + scales) * static_cast<std::int64_t>(size_of(DType::f32));
}

WorkspaceShape workspace_shape(const ModelSpec& spec, const RankSlices& slices,
                               std::int64_t max_tokens, std::int64_t max_logits_rows) {
  if (spec.weight_scaling == Fp8Scaling::blocks) max_tokens = whole_groups(max_tokens);
  std::int64_t wide = slices.has_embedding && spec.has_projections() ? spec.embedding_size : 0;
  std::int64_t inner = 0;
  for (std::size_t i = 0; i < slices.slices.size(); ++i) {
    const LayerSpec& layer = spec.layers[static_cast<std::size_t>(slices.layers.begin) + i];
    const LayerSlice& slice = slices.slices[i];
    const std::int64_t head_dim = layer.attention.head_dim;
    const std::int64_t intermediate = slice.intermediate.count;
    wide = std::max({wide, (slice.heads.count + 2 * slice.kv_heads.count) * head_dim,
                     layer.mlp.gated ? 2 * intermediate : intermediate});
    inner = std::max({inner, slice.heads.count * head_dim, intermediate});
  }
  WorkspaceShape shape;
  shape.hidden = max_tokens * spec.hidden_size;
  shape.hidden_copies = slices.has_head ? 3 : 4;  // a stage before the last sends from one of two
  shape.wide = max_tokens * wide;
  shape.inner = max_tokens * inner;
  if (spec.weight_scaling != Fp8Scaling::none) {
    const std::int64_t widest = std::max(spec.hidden_size, inner);
    shape.quantized = max_tokens * widest;
    shape.scales =
        max_tokens * (spec.weight_scaling == Fp8Scaling::rows ? 1 : scale_blocks(widest));
  }
  if (slices.has_head) {
    shape.head_rows = max_logits_rows * spec.hidden_size;
    shape.projected = spec.has_projections() ? max_logits_rows * spec.embedding_size : 0;
    shape.logits = max_logits_rows * slices.vocab_padded;
  }
  return shape;
}

}  // namespace millrace
