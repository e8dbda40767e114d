#include "core/plan/plan_options.hpp"

#include <algorithm>

#include "kernels/base/error.hpp"

namespace millrace {

namespace {

// What is not said of a step's size. A GPU needs some thousand tokens at once to be busy; for an
// 8B model that takes 1 GiB more than what a CPU gets.
void choose_step_limits(PlanOptions& options, const EngineConfig& engine) {
  const bool gpu = options.device == DeviceKind::cuda;
  options.max_num_seqs = gpu ? 1024 : 256;
  options.max_num_batched_tokens = gpu ? 8192 : 2048;
  if (engine.max_num_batched_tokens) {
    options.max_num_batched_tokens = *engine.max_num_batched_tokens;
    options.max_num_seqs = std::min(options.max_num_seqs, options.max_num_batched_tokens);
  }
  if (engine.max_num_seqs) {
    options.max_num_seqs = *engine.max_num_seqs;
    if (!engine.max_num_batched_tokens) {
      options.max_num_batched_tokens =
          std::max(options.max_num_batched_tokens, options.max_num_seqs);
    }
  }
}

}  // namespace

PlanOptions make_plan_options(const ModelSpec& spec, const ModelConfig& model,
                              const EngineConfig& engine, DeviceKind device,
                              std::int64_t memory_bytes) {
  PlanOptions options;
  options.device = device;
  options.dtype = model.dtype.value_or(spec.dtype);
  options.cache_dtype =
      model.kv_cache_dtype.value_or(device == DeviceKind::cpu ? DType::f32 : options.dtype);
  options.max_model_len = model.max_model_len.value_or(spec.max_position_embeddings);
  if (options.max_model_len > spec.max_position_embeddings) {
    throw UserError("--max-model-len {} is more than the {} positions of the model",
                    options.max_model_len, spec.max_position_embeddings);
  }
  options.block_size = engine.block_size;
  choose_step_limits(options, engine);
  options.memory_bytes = memory_bytes;
  options.cache_bytes = engine.kv_cache_memory_bytes;
  options.limit_to_use = device == DeviceKind::cpu;
  return options;
}

}  // namespace millrace
