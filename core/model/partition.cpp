#include "core/model/partition.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

constexpr std::int64_t vocab_unit = 64;
constexpr std::int64_t preferred_inner_unit = 64;
// Units are small enough that the largest part is at most an eighth above the mean.
constexpr std::int64_t units_per_rank = 8;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Part `index` of [0, count) cut in `parts` as evenly as it goes, the first parts one longer.
Range even_part(std::int64_t count, std::int64_t parts, std::int64_t index) {
  const std::int64_t base = count / parts;
  const std::int64_t longer = count % parts;
  return {index * base + std::min(index, longer), base + (index < longer ? 1 : 0)};
}

// The same in whole units; the last unit may be short.
Range even_part_in_units(std::int64_t count, std::int64_t unit, std::int64_t parts,
                         std::int64_t index) {
  const Range units = even_part(ceil_div(count, unit), parts, index);
  const std::int64_t begin = std::min(units.begin * unit, count);
  return {begin, std::min(units.end() * unit, count) - begin};
}

// The largest unit up to 64 that is a multiple of the granule and keeps the parts balanced: aligned
// rows suit vector loads and tensor cores.
std::int64_t inner_unit(const ModelSpec& spec, std::int64_t intermediate, int tp) {
  for (std::int64_t unit = preferred_inner_unit; unit > spec.granule; unit /= 2) {
    if (unit % spec.granule == 0 && intermediate >= units_per_rank * unit * tp) return unit;
  }
  return spec.granule;
}

std::int64_t unit_of_vocab(const ModelSpec& spec, int tp) {
  return spec.vocab_size >= units_per_rank * vocab_unit * tp ? vocab_unit : 1;
}

LayerSlice slice_layer(const ModelSpec& spec, const LayerSpec& layer, int tp, int rank) {
  const AttentionSpec& attention = layer.attention;
  const int group = attention.heads / attention.kv_heads;
  LayerSlice slice;
  if (tp <= attention.kv_heads) {
    slice.kv_heads = even_part(attention.kv_heads, tp, rank);
    slice.heads = {slice.kv_heads.begin * group, slice.kv_heads.count * group};
  } else {
    // The ranks of group g begin at floor(g * tp / groups).
    const std::int64_t groups = attention.kv_heads;
    const std::int64_t own = ((rank + 1) * groups - 1) / tp;
    const Range ranks{own * tp / groups, (own + 1) * tp / groups - own * tp / groups};
    slice.kv_heads = {own, 1};
    const Range part = even_part(group, ranks.count, rank - ranks.begin);
    slice.heads = {slice.kv_heads.begin * group + part.begin, part.count};
  }
  const std::int64_t inner = layer.mlp.intermediate_size;
  slice.intermediate = even_part_in_units(inner, inner_unit(spec, inner, tp), tp, rank);
  return slice;
}

// Parameters of a layer's matrices; norms and biases are noise beside them.
std::int64_t layer_cost(const ModelSpec& spec, const LayerSpec& layer) {
  const AttentionSpec& attention = layer.attention;
  const std::int64_t attention_rows =
      2 * static_cast<std::int64_t>(attention.heads + attention.kv_heads) * attention.head_dim;
  const std::int64_t mlp_rows = (layer.mlp.gated ? 3 : 2) * layer.mlp.intermediate_size;
  return (attention_rows + mlp_rows) * spec.hidden_size;
}

void check_tensor_parallel(const ModelSpec& spec, int tp) {
  for (const LayerSpec& layer : spec.layers) {
    const int heads = layer.attention.heads;
    if (tp > heads) {
      throw UserError("tensor parallel size {} is larger than the model's {} query heads", tp,
                      heads);
    }
    if (layer.mlp.intermediate_size < spec.granule * tp) {
      throw UserError(
          "tensor parallel size {} is too large for an MLP of {} inner features in units of {}", tp,
          layer.mlp.intermediate_size, spec.granule);
    }
  }
  if (spec.vocab_size < tp) {
    throw UserError("tensor parallel size {} is too large for a vocabulary of {}", tp,
                    spec.vocab_size);
  }
}

std::vector<int> stage_layers(const ModelSpec& spec, int stages,
                              const std::vector<int>& pipeline_partition) {
  const int layers = static_cast<int>(spec.layers.size());
  if (stages > layers) {
    throw UserError("pipeline parallel size {} is larger than the model's {} layers", stages,
                    layers);
  }
  if (pipeline_partition.empty()) return split_layers(spec, stages);
  const std::string given = fmt::format("{}", fmt::join(pipeline_partition, ","));
  if (static_cast<int>(pipeline_partition.size()) != stages) {
    throw UserError("--pipeline-partition {} has {} entries, pipeline parallel size is {}", given,
                    pipeline_partition.size(), stages);
  }
  std::int64_t sum = 0;
  for (const int count : pipeline_partition) {
    if (count < 1) throw UserError("--pipeline-partition {}: a stage needs a layer", given);
    sum += count;
  }
  if (sum != layers) {
    throw UserError("--pipeline-partition {} sums to {}, the model has {} layers", given, sum,
                    layers);
  }
  return pipeline_partition;
}

}  // namespace

std::vector<int> split_layers(const ModelSpec& spec, int stages) {
  const std::size_t layers = spec.layers.size();
  const auto last_stage = static_cast<std::size_t>(stages) - 1;
  std::vector<std::int64_t> before(layers + 1, 0);  // cost of the layers before i
  for (std::size_t i = 0; i < layers; ++i) {
    before[i + 1] = before[i] + layer_cost(spec, spec.layers[i]);
  }
  // Two fifths of the head's matrix: only tokens that are drawn have logits, about half of a job's,
  // and attention comes on top of a layer's matrices. Embeddings are looked up, at no cost beside
  // that.
  const std::int64_t head = spec.vocab_size * spec.embedding_size * 2 / 5;
  const auto cost = [&](std::size_t stage, std::size_t begin, std::size_t end) {
    return before[end] - before[begin] + (stage == last_stage ? head : 0);
  };
  // best[s][i]: the least (highest cost, sum of squares) when stages 0..s hold the first i layers.
  // The sum of squares spreads what the costliest stage leaves free.
  using Score = std::pair<std::int64_t, double>;
  constexpr Score worst{INT64_MAX, 0.0};
  std::vector<std::vector<Score>> best(last_stage + 1, std::vector<Score>(layers + 1, worst));
  std::vector<std::vector<std::size_t>> from(last_stage + 1, std::vector<std::size_t>(layers + 1));
  for (std::size_t stage = 0; stage <= last_stage; ++stage) {
    for (std::size_t end = stage + 1; end + (last_stage - stage) <= layers; ++end) {
      for (std::size_t begin = stage; begin < end; ++begin) {
        if (stage == 0 && begin > 0) break;
        const Score previous = stage == 0 ? Score{0, 0.0} : best[stage - 1][begin];
        if (previous == worst) continue;
        const std::int64_t own = cost(stage, begin, end);
        const Score score{std::max(previous.first, own),
                          previous.second + static_cast<double>(own) * static_cast<double>(own)};
        if (score < best[stage][end]) {
          best[stage][end] = score;
          from[stage][end] = begin;
        }
      }
    }
  }
  std::vector<int> counts(last_stage + 1);
  std::size_t end = layers;
  for (std::size_t stage = last_stage + 1; stage-- > 0;) {
    counts[stage] = static_cast<int>(end - from[stage][end]);
    end = from[stage][end];
  }
  return counts;
}

void check_partition(const ModelSpec& spec, GridShape grid,
                     const std::vector<int>& pipeline_partition) {
  check_tensor_parallel(spec, grid.tensor);
  stage_layers(spec, grid.pipeline, pipeline_partition);
}

RankSlices partition(const ModelSpec& spec, GridShape grid, GridCoordinates rank,
                     const std::vector<int>& pipeline_partition) {
  check_tensor_parallel(spec, grid.tensor);
  const std::vector<int> counts = stage_layers(spec, grid.pipeline, pipeline_partition);
  const auto stage = counts.begin() + rank.pipeline;

  RankSlices slices;
  slices.tensor_rank = rank.tensor;
  slices.tensor_size = grid.tensor;
  slices.layers = {std::accumulate(counts.begin(), stage, std::int64_t{0}), *stage};
  for (std::int64_t i = slices.layers.begin; i < slices.layers.end(); ++i) {
    slices.slices.push_back(
        slice_layer(spec, spec.layers[static_cast<std::size_t>(i)], grid.tensor, rank.tensor));
  }
  const std::int64_t unit = unit_of_vocab(spec, grid.tensor);
  slices.vocab = even_part_in_units(spec.vocab_size, unit, grid.tensor, rank.tensor);
  const Range largest = even_part_in_units(spec.vocab_size, unit, grid.tensor, 0);
  slices.vocab_padded = ceil_div(largest.count, vocab_unit) * vocab_unit;
  slices.has_embedding = rank.pipeline == 0;
  slices.has_head = rank.pipeline == grid.pipeline - 1;
  return slices;
}

}  // namespace millrace
