#include "bench/throughput/roofline.hpp"

#include <algorithm>

#include "core/model/memory.hpp"

namespace millrace::bench {
namespace {

// Of the layers.
double matmul_flops(double tokens, double samples, const ModelCost& cost) {
  return tokens * cost.flops_per_token + samples * cost.last_flops_per_sample;
}

}  // namespace

ModelCost cost_of(const ModelSpec& spec, double held_bytes, DType dtype, DType cache_dtype) {
  ModelCost cost;
  const double table = static_cast<double>(spec.vocab_size * spec.embedding_size);
  cost.weight_bytes =
      held_bytes - (spec.tied_embeddings ? 0 : table * static_cast<double>(size_of(dtype)));
  cost.head_flops_per_sample = 2 * table;
  const auto hidden = static_cast<double>(spec.hidden_size);
  const LayerSpec& last = spec.layers.back();
  cost.last_flops_per_sample =
      2 * hidden *
      (static_cast<double>(last.attention.heads) * last.attention.head_dim +
       (last.mlp.gated ? 3 : 2) * static_cast<double>(last.mlp.intermediate_size));
  cost.flops_per_token =
      2 * static_cast<double>(layer_matrix_elements(spec)) - cost.last_flops_per_sample;
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& attention = layer.attention;
    const double q = static_cast<double>(attention.heads) * attention.head_dim;
    const double kv = static_cast<double>(attention.kv_heads) * attention.head_dim;
    cost.bytes_per_key += 2 * kv * static_cast<double>(size_of(cache_dtype));
    cost.attention_flops_per_pair += 4 * q;
  }
  if (spec.has_projections()) {
    cost.flops_per_token += 2 * hidden * static_cast<double>(spec.embedding_size);
    cost.head_flops_per_sample += 2 * hidden * static_cast<double>(spec.embedding_size);
  }
  return cost;
}

double roofline_seconds(const StepRecord& step, const ModelCost& cost, const Ceilings& ceilings) {
  const double weights = cost.weight_bytes / ceilings.copy_bytes_per_second;
  const double matmul =
      matmul_flops(step.tokens, step.samples, cost) / ceilings.matmul_flops_per_second +
      step.samples * cost.head_flops_per_sample / ceilings.head_flops_per_second;
  return std::max(weights, matmul) +
         static_cast<double>(step.decode_keys) * cost.bytes_per_key /
             ceilings.copy_bytes_per_second +
         static_cast<double>(step.prompt_pairs) * cost.attention_flops_per_pair /
             ceilings.head_flops_per_second;
}

double roofline_seconds(std::span<const StepRecord> steps, const ModelCost& cost,
                        const Ceilings& ceilings) {
  double seconds = 0;
  for (const StepRecord& step : steps) seconds += roofline_seconds(step, cost, ceilings);
  return seconds;
}

double ideal_seconds(const Workload& workload, const ScheduleLimits& limits, const ModelCost& cost,
                     const Ceilings& ceilings) {
  double tokens = 0, samples = 0, decodes = 0, keys = 0, pairs = 0, longest = 0;
  for (const Lengths& r : workload.requests) {
    const double prompt = r.prompt;
    const double steps = r.output - 1.0;  // the first token is drawn by the prompt's own step
    tokens += prompt + steps;
    samples += r.output;
    decodes += steps;
    keys += steps * prompt + steps * (steps + 1) / 2;
    pairs += prompt * (prompt + 1) / 2;
    longest = std::max<double>(longest, r.output);
  }
  const double mean_length = decodes > 0 ? keys / decodes : 1;
  const double running = std::min(
      {static_cast<double>(limits.max_num_seqs), static_cast<double>(workload.requests.size()),
       std::max(1.0, static_cast<double>(limits.cache_tokens) / mean_length)});
  const double steps = std::max(longest, decodes / running);
  const double weights = steps * cost.weight_bytes / ceilings.copy_bytes_per_second;
  const double matmul = matmul_flops(tokens, samples, cost) / ceilings.matmul_flops_per_second +
                        samples * cost.head_flops_per_sample / ceilings.head_flops_per_second;
  return std::max(weights, matmul) + keys * cost.bytes_per_key / ceilings.copy_bytes_per_second +
         pairs * cost.attention_flops_per_pair / ceilings.head_flops_per_second;
}

}  // namespace millrace::bench
