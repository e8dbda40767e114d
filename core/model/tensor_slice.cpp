#include "core/model/tensor_slice.hpp"

namespace millrace {
namespace {

bool is_on_stage(const TensorSpec& tensor, const ModelSpec& spec, const RankSlices& rank) {
  if (tensor.layer >= 0) {
    return tensor.layer >= rank.layers.begin && tensor.layer < rank.layers.end();
  }
  switch (tensor.role) {
    case WeightRole::token_embedding:
      return rank.has_embedding || (rank.has_head && spec.tied_embeddings);
    case WeightRole::position_embedding:
    case WeightRole::project_in:
      return rank.has_embedding;
    default:
      return rank.has_head;
  }
}

Range times(Range range, std::int64_t factor) {
  return {range.begin * factor, range.count * factor};
}

}  // namespace

std::optional<TensorSlice> slice_of(const TensorSpec& tensor, const ModelSpec& spec,
                                    const RankSlices& rank) {
  if (!is_on_stage(tensor, spec, rank)) return std::nullopt;
  if (tensor.cut == Cut::first_rank_only && rank.tensor_rank != 0) return std::nullopt;
  TensorSlice slice{{0, tensor.shape[0]}, {0, tensor.shape.size() == 2 ? tensor.shape[1] : 1}};
  if (tensor.cut == Cut::vocab) {
    slice.rows = rank.vocab;
    return slice;
  }
  if (tensor.layer < 0) return slice;
  const auto layer = static_cast<std::size_t>(tensor.layer);
  const LayerSlice& part = rank.slices[layer - static_cast<std::size_t>(rank.layers.begin)];
  const std::int64_t head_dim = spec.layers[layer].attention.head_dim;
  switch (tensor.cut) {
    case Cut::q_heads:
      slice.rows = times(part.heads, head_dim);
      break;
    case Cut::kv_heads:
      slice.rows = times(part.kv_heads, head_dim);
      break;
    case Cut::o_inputs:
      slice.columns = times(part.heads, head_dim);
      break;
    case Cut::intermediate_rows:
      slice.rows = part.intermediate;
      break;
    case Cut::intermediate_columns:
      slice.columns = part.intermediate;
      break;
    case Cut::none:
    case Cut::vocab:
    case Cut::first_rank_only:
      break;
  }
  return slice;
}

}  // namespace millrace
