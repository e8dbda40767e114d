// What a plan needs to know, from flags and the model.
#pragma once

#include "core/config/run_config.hpp"
#include "core/plan/grid_plan.hpp"

namespace millrace {

// The part of a CPU host's free memory that the ranks on it share, for weights, activations and
// cache.
inline constexpr double cpu_memory_utilization = 0.8;

// Fills in what the flags leave open: the checkpoint's dtype, a cache in f32 on CPUs and in the
// weights' dtype on GPUs, the model's longest length, larger steps on GPUs than on CPUs.
// `memory_bytes` is what one rank may use.
// Throws UserError when --max-model-len is beyond the model's positions.
PlanOptions make_plan_options(const ModelSpec& spec, const ModelConfig& model,
                              const EngineConfig& engine, DeviceKind device,
                              std::int64_t memory_bytes);

}  // namespace millrace
