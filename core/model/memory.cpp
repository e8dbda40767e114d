#include "core/model/memory.hpp"

#include <map>
#include <utility>

#include "core/model/tensor_slice.hpp"
#include "kernels/linear.hpp"

namespace millrace {
namespace {

std::int64_t width(DType dtype) { return static_cast<std::int64_t>(size_of(dtype)); }

std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Matrices that the loader packs into one LinearWeight have the same first role.
WeightRole packed_with(WeightRole role) {
  if (role == WeightRole::k || role == WeightRole::v) return WeightRole::q;
  if (role == WeightRole::gate) return WeightRole::up;
  return role;
}

// As LinearWeight keeps them.
std::int64_t scale_count(Fp8Source fp8, std::int64_t rows, std::int64_t columns, bool on_cpu) {
  if (fp8 == Fp8Source::none) return 0;
  if (fp8 != Fp8Source::blocks) return rows;
  return scale_blocks(rows) * round_up(scale_blocks(columns), on_cpu ? 1 : 4);
}

}  // namespace

std::int64_t weight_bytes(const ModelDescription& model, const RankSlices& slices, DType dtype,
                          DeviceKind device, std::int64_t max_positions) {
  const bool on_cpu = device == DeviceKind::cpu;
  const DType activations = on_cpu ? DType::f32 : dtype;
  struct Matrix {
    std::int64_t rows = 0;
    std::int64_t columns = 0;
    Fp8Source fp8 = Fp8Source::none;
  };
  std::map<std::pair<int, WeightRole>, Matrix> matrices;
  std::int64_t bytes = 0;
  for (const TensorSpec& tensor : model.tensors) {
    const std::optional<TensorSlice> slice = slice_of(tensor, model.spec, slices);
    if (!slice) continue;
    if (tensor.shape.size() == 1 || tensor.role == WeightRole::position_embedding) {
      bytes += slice->rows.count * slice->columns.count * width(activations);
      continue;
    }
    Matrix& matrix = matrices[{tensor.layer, packed_with(tensor.role)}];
    matrix.rows += tensor.cut == Cut::vocab ? slices.vocab_padded : slice->rows.count;
    matrix.columns = slice->columns.count;
    matrix.fp8 = tensor.fp8;
  }
  const std::int64_t row_unit = on_cpu ? LinearWeight::panel_width : 1;
  for (const auto& [key, matrix] : matrices) {
    const DType element = matrix.fp8 == Fp8Source::none ? dtype : DType::fp8_e4m3;
    bytes += round_up(matrix.rows, row_unit) * matrix.columns * width(element);
    bytes += scale_count(matrix.fp8, matrix.rows, matrix.columns, on_cpu) * width(DType::f32);
  }
  if (model.spec.position == PositionKind::rotary) {
    bytes += max_positions * model.spec.rotary.rotary_dim * width(DType::f32);
  }
  return bytes;
}

std::int64_t layer_matrix_elements(const ModelSpec& spec) {
  std::int64_t elements = 0;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    const std::int64_t heads = 2 * (attention.heads + attention.kv_heads);  // of q, k, v and o
    elements += spec.hidden_size * (heads * attention.head_dim +
                                    layer.mlp.intermediate_size * (layer.mlp.gated ? 3 : 2));
  }
  return elements;
}

std::int64_t cache_block_bytes(const ModelSpec& spec, const RankSlices& slices, int block_size,
                               DType cache_dtype) {
  std::int64_t elements = 0;
  for (std::size_t i = 0; i < slices.slices.size(); ++i) {
    const auto layer = static_cast<std::size_t>(slices.layers.begin) + i;
    elements += 2 * slices.slices[i].kv_heads.count * spec.layers[layer].attention.head_dim;
  }
  return elements * block_size * width(cache_dtype);
}

CacheCapacity cache_capacity(std::int64_t blocks, int block_size, std::int64_t max_model_len) {
  const std::int64_t blocks_per_request = (max_model_len + block_size - 1) / block_size;
  return {.blocks = blocks,
          .tokens = blocks * block_size,
          .concurrency = static_cast<double>(blocks) / static_cast<double>(blocks_per_request)};
}

}  // namespace millrace
