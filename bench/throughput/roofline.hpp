// The least time that a device of given ceilings needs for a schedule: for every step
//
//   max(weight bytes / bandwidth, matmul flops / rate) + KV bytes / bandwidth
//     + prompt attention flops / rate
//
// summed over the steps. Behind the last layer's attention only rows that draw a token count. The
// rate is that of the dtype that is multiplied: the output head and attention stay in the
// activations' where the layers are fp8. Weights are read once a step; the KV bytes are the keys
// and values that decode tokens read; norms, activations and sampling cost nothing. A replica of
// several ranks counts as one device of their ceilings together. Sliding windows are not taken off.
#pragma once

#include <cstdint>
#include <span>

#include "bench/throughput/ceilings.hpp"
#include "bench/throughput/workload.hpp"
#include "core/engine/step_trace.hpp"
#include "core/model/model_spec.hpp"

namespace millrace::bench {

// Of a whole model.
struct ModelCost {
  double weight_bytes = 0;              // that a step multiplies with: all but the input embedding
  double flops_per_token = 0;           // of the layers' matrices that all tokens run through
  double last_flops_per_sample = 0;     // of what lies behind the last layer's attention
  double head_flops_per_sample = 0;     // of the output head
  double bytes_per_key = 0;             // keys and values of one position, over all layers
  double attention_flops_per_pair = 0;  // of one query and one key, over all layers and heads
};

// `held_bytes`: all weights as they are held, the input embedding included.
ModelCost cost_of(const ModelSpec& spec, double held_bytes, DType dtype, DType cache_dtype);

double roofline_seconds(const StepRecord& step, const ModelCost& cost, const Ceilings& ceilings);
double roofline_seconds(std::span<const StepRecord> steps, const ModelCost& cost,
                        const Ceilings& ceilings);

// What limits how many sequences run at once.
struct ScheduleLimits {
  std::int64_t max_num_seqs = 0;
  std::int64_t cache_tokens = 0;
};

// The same for a schedule that nothing disturbs: from the first step to the last as many sequences
// run as the limits allow at the workload's mean length, no step is without them, prompts are
// spread evenly over the steps, and nothing is computed twice.
double ideal_seconds(const Workload& workload, const ScheduleLimits& limits, const ModelCost& cost,
                     const Ceilings& ceilings);

}  // namespace millrace::bench
