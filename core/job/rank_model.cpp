#include "core/job/rank_model.hpp"

#include <fmt/format.h>

#include "comm/agree.hpp"
#include "comm/split_sum.hpp"
#include "core/config/sampling_defaults.hpp"
#include "core/job/device_choice.hpp"
#include "core/job/host_resources.hpp"
#include "core/job/log.hpp"
#include "core/job/stoppable_checkpoint.hpp"
#include "core/job/weight_sharing.hpp"
#include "core/model/quantization.hpp"
#include "core/plan/pick_grid.hpp"
#include "core/plan/plan_options.hpp"
#include "core/weights/checkpoint.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// What one rank of this host may use.
std::int64_t memory_of_rank(const Device& device, const Comm& node, const EngineConfig& engine) {
  if (device.is_cuda()) {
    return static_cast<std::int64_t>(engine.gpu_memory_utilization *
                                     static_cast<double>(device_memory_bytes(device)));
  }
  return static_cast<std::int64_t>(cpu_memory_utilization *
                                   static_cast<double>(available_memory_bytes())) /
         node.size();
}

// Rank 0 reads the headers for all.
std::unique_ptr<Checkpoint> open_together(const Comm& world, const ModelFiles& files) {
  Bytes heads;
  agree(world, [&] {
    if (world.rank() == 0) heads = read_checkpoint_heads(files);
  });
  world.broadcast_bytes(heads, 0);
  return agree(world, [&] { return open_checkpoint(files, heads); });
}

}  // namespace

void check_load_format(LoadFormat format, const ModelFiles& files) {
  if (format == LoadFormat::gguf && !files.is_gguf()) {
    throw UserError("--load-format gguf: {} is not a .gguf file", files.folder.string());
  }
  if (format == LoadFormat::safetensors && files.is_gguf()) {
    throw UserError("--load-format safetensors: {} is a .gguf file", files.gguf.string());
  }
}

JobPlan plan_job(const Comm& world, const RunConfig& config) {
  JobPlan plan;
  const Comm node = world.split_by_host();
  ClusterShape cluster;
  std::int64_t memory_bytes = 0;
  agree(world, [&] {
    plan.files = find_model(config.model.model);
    check_load_format(config.model.load_format, plan.files);
    plan.model = describe_model(plan.files);
    if (config.model.quantization == Quantization::fp8) quantize_at_load(plan.model);
    plan.sampling = sampling_defaults(
        config.sampling, plan.files.is_gguf() ? std::filesystem::path()
                                              : plan.files.folder / "generation_config.json");
    // Else every prompt would fail by itself.
    for (const std::int32_t token : plan.sampling.stop_token_ids) {
      if (token < plan.model.spec.vocab_size) continue;
      throw UserError("--stop-token-ids: {} is no token of the model, which has 0 to {}", token,
                      plan.model.spec.vocab_size - 1);
    }
  });
  agree(world, [&] {
    plan.device = choose_device(config.engine.device, node);
    memory_bytes = memory_of_rank(plan.device, node, config.engine);
  });
  cluster.ranks = world.size();
  cluster.ranks_per_node = static_cast<int>(world.all_reduce_min(node.size()));
  memory_bytes = world.all_reduce_min(memory_bytes);
  plan.options = make_plan_options(plan.model.spec, config.model, config.engine, plan.device.kind,
                                   memory_bytes);
  plan.options.pipeline_partition = config.grid.pipeline_partition;
  PickedGrid picked = pick_grid(plan.model, cluster, config.grid, plan.options);
  plan.grid = std::move(picked.plan);
  plan.explanation = std::move(picked.explanation);
  return plan;
}

ReplicaParameters replica_parameters(const JobPlan& plan, const RankModel& rank) {
  const PlanOptions& options = plan.options;
  ReplicaParameters parameters;
  parameters.max_num_batched_tokens = options.max_num_batched_tokens;
  parameters.max_num_seqs = options.max_num_seqs;
  parameters.max_model_len = static_cast<std::int32_t>(options.max_model_len);
  parameters.block_size = options.block_size;
  if (plan.device.is_cpu() || options.cache_bytes) parameters.num_blocks = rank.plan.blocks;
  parameters.memory_bytes = options.memory_bytes;
  parameters.cache_dtype = options.cache_dtype;
  parameters.activation_dtype = plan.device.is_cpu() ? DType::f32 : options.dtype;
  parameters.device = plan.device;
  return parameters;
}

std::size_t carried_sum_bytes(const JobPlan& plan) {
  const auto row = static_cast<std::size_t>(plan.model.spec.hidden_size);
  return SumInParts::largest_part_bytes(plan.options.max_num_batched_tokens,
                                        row * size_of(plan.options.dtype));
}

RankModel load_rank(const Grid& grid, const JobPlan& plan, const RunConfig& config,
                    const StopRequest& stop) {
  const bool is_dummy = config.model.load_format == LoadFormat::dummy;
  RankModel rank;
  const GridCoordinates at = grid.coordinates();
  rank.slices = partition(plan.model.spec, grid.shape(), at, plan.options.pipeline_partition);
  rank.plan =
      plan.grid.ranks[static_cast<std::size_t>(at.pipeline * grid.shape().tensor + at.tensor)];
  StoppableCheckpoint checkpoint(is_dummy ? make_dummy_checkpoint(plan.model, config.sampling.seed)
                                          : open_together(grid.world(), plan.files),
                                 stop);
  const WeightSharing sharing(grid, plan, config.model);
  log_info("load strategy: {}", sharing.explanation());
  agree(grid.world(), [&] {
    const OwnedStream stream(plan.device);
    rank.weights = load_weights(plan.model, checkpoint, rank.slices,
                                {.dtype = plan.options.dtype,
                                 .device = plan.device,
                                 .max_positions = plan.options.max_model_len,
                                 .peers = sharing.peers()},
                                stream.stream());
  });
  return rank;
}

}  // namespace millrace
