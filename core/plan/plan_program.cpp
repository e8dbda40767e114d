#include "core/plan/plan_program.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "core/io/report.hpp"
#include "core/model/model_folder.hpp"
#include "core/model/quantization.hpp"
#include "core/plan/human_bytes.hpp"
#include "core/plan/plan_options.hpp"
#include "core/version.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

constexpr std::string_view kUsage =
    "Prints what each grid of a cluster holds of a model: weights and KV cache per rank, tokens, "
    "concurrency.\n"
    "Reads the model's configuration alone; needs no MPI and no GPU.\n\n"
    "  millrace-plan --model MODEL --gpu-memory SIZE [--gpus-per-node N] [--nodes N] [flags]\n";

// Less was meant in another unit.
constexpr std::int64_t least_memory_bytes = 64 << 20;
// A power of two above the largest clusters; grids are tried one by one.
constexpr int most_ranks = 1 << 17;

std::int64_t memory_of_rank(const PlanConfig& config) {
  if (config.engine.device == DeviceChoice::cpu) {
    return static_cast<std::int64_t>(cpu_memory_utilization *
                                     static_cast<double>(config.memory_bytes)) /
           config.ranks_per_node;
  }
  return static_cast<std::int64_t>(config.engine.gpu_memory_utilization *
                                   static_cast<double>(config.memory_bytes));
}

// "bfloat16"; with layers in fp8 "fp8 and bfloat16", since embeddings, norms and head are not.
std::string weights_text(const ModelDescription& model, DType dtype) {
  const bool has_fp8 = std::ranges::any_of(
      model.tensors, [](const TensorSpec& tensor) { return tensor.fp8 != Fp8Source::none; });
  return fmt::format("{}{}", has_fp8 ? "fp8 and " : "", name(dtype));
}

// What decides how much a replica holds.
std::string limit_of(const GridPlan& plan, const PlanOptions& options) {
  if (!plan.works()) {
    return plan.problem;
  }
  const RankPlan& rank = plan.ranks[plan.limiting];
  const std::int64_t useful = blocks_of(std::numeric_limits<std::int64_t>::max(), 1, options);
  if (options.limit_to_use && rank.blocks == useful) {
    return fmt::format("--max-num-seqs {}", options.max_num_seqs);
  }
  if (options.cache_bytes) {
    return "--kv-cache-memory-bytes";
  }
  const bool alike = std::ranges::all_of(
      plan.ranks, [&](const RankPlan& other) { return other.blocks == rank.blocks; });
  return alike
             ? "memory of every rank"
             : fmt::format("memory of stage {}, tensor rank {}", rank.at.pipeline, rank.at.tensor);
}

}  // namespace

std::vector<Flag> plan_flags(PlanConfig& config) {
  using Kind = Flag::Kind;
  std::vector<Flag> flags =
      flags_named(model_flags(config.model),
                  {"model", "dtype", "quantization", "kv-cache-dtype", "max-model-len"});
  const std::string group = "Cluster";
  const auto into_count = [](int& field) {
    return [&field](const FlagValue& value) {
      field = static_cast<int>(value.integer(1, most_ranks));
    };
  };
  flags.push_back({group, "device", "", Kind::value, "cuda|cpu", "cuda", "What the ranks run on.",
                   [&config](const FlagValue& value) {
                     config.engine.device =
                         value.word({"cuda", "cpu"}) == 0 ? DeviceChoice::cuda : DeviceChoice::cpu;
                   }});
  flags.push_back({group, "gpu-memory", "", Kind::value, "SIZE", "",
                   "Memory of one GPU, as 80GiB; with --device cpu, free memory of one host.",
                   [&config](const FlagValue& value) {
                     config.memory_bytes = value.bytes();
                     if (config.memory_bytes < least_memory_bytes) {
                       value.reject("a memory such as 80GiB: a number alone is bytes");
                     }
                   }});
  flags.push_back({group, "gpus-per-node", "", Kind::value, "N", "1",
                   "GPUs of a node, one rank each; with --device cpu, ranks of a host.",
                   into_count(config.ranks_per_node)});
  flags.push_back({group, "nodes", "", Kind::value, "N", "1", "Nodes.", into_count(config.nodes)});
  flags.push_back({group, "node-link", "", Kind::value, "nvlink|pcie", "nvlink",
                   "What joins the GPUs of a node.", [&config](const FlagValue& value) {
                     config.fast_within_node = value.word({"nvlink", "pcie"}) == 0;
                   }});
  std::ranges::move(grid_flags(config.grid), std::back_inserter(flags));
  std::ranges::move(flags_named(engine_flags(config.engine),
                                {"max-num-seqs", "max-num-batched-tokens", "block-size",
                                 "kv-cache-memory-bytes", "gpu-memory-utilization"}),
                    std::back_inserter(flags));
  return flags;
}

ModelDescription model_to_plan(const PlanConfig& config) {
  ModelDescription model = describe_model(find_model(config.model.model));
  if (config.model.quantization == Quantization::fp8) quantize_at_load(model);
  return model;
}

ClusterPlan plan_cluster(const ModelDescription& model, const PlanConfig& config) {
  const bool cpu = config.engine.device == DeviceChoice::cpu;
  ClusterPlan plan;
  if (std::int64_t{config.nodes} * config.ranks_per_node > most_ranks) {
    throw UserError("--nodes {} with --gpus-per-node {} is more than {} ranks", config.nodes,
                    config.ranks_per_node, with_commas(most_ranks));
  }
  plan.cluster = {config.nodes * config.ranks_per_node, config.ranks_per_node,
                  cpu || config.fast_within_node};
  plan.options =
      make_plan_options(model.spec, config.model, config.engine,
                        cpu ? DeviceKind::cpu : DeviceKind::cuda, memory_of_rank(config));
  plan.options.pipeline_partition = config.grid.pipeline_partition;
  plan.grids = plan_grids(model, plan.cluster, config.grid, plan.options);
  return plan;
}

std::string table_text(const ModelDescription& model, const ClusterPlan& plan) {
  const PlanOptions& options = plan.options;
  const int nodes = plan.cluster.ranks / plan.cluster.ranks_per_node;
  std::string text = fmt::format(
      "{}: {} layers, weights in {}, KV cache in {}, blocks of {} tokens, up to {} tokens per "
      "request\n"
      "{} {}{} on {} node{}; a rank may use {}\n\n",
      model.spec.architecture, model.spec.layers.size(), weights_text(model, options.dtype),
      name(options.cache_dtype), options.block_size, with_commas(options.max_model_len),
      plan.cluster.ranks, options.device == DeviceKind::cpu ? "CPU rank" : "GPU",
      plan.cluster.ranks == 1 ? "" : "s", nodes, nodes == 1 ? "" : "s",
      human_bytes(options.memory_bytes));
  text += fmt::format("{:>5} {:>9} {:>7} {:>13} {:>13} {:>15} {:>12} {:>12}  {}\n", "data",
                      "pipeline", "tensor", "weights/rank", "cache/rank", "KV tokens",
                      "concurrency", "in total", "limited by");
  for (const GridPlan& grid : plan.grids) {
    const auto& [data, pipeline, tensor] = grid.shape;
    text += fmt::format("{:>5} {:>9} {:>7}  ", data, pipeline, tensor);
    if (!grid.works()) {
      text += grid.problem + '\n';
      continue;
    }
    const RankPlan& rank = grid.ranks[grid.limiting];
    const auto heaviest = std::ranges::max_element(grid.ranks, {}, &RankPlan::weight_bytes);
    text += fmt::format("{:>12} {:>13} {:>15} {:>11.2f}x {:>11.2f}x  {}\n",
                        human_bytes(heaviest->weight_bytes), human_bytes(rank.cache_bytes),
                        with_commas(grid.replica.tokens), grid.replica.concurrency,
                        grid.replica.concurrency * data, limit_of(grid, options));
  }
  return text + "\nKV tokens and concurrency are of one replica, in total of all replicas.\n";
}

std::string recommendation_text(const ModelDescription& model, const PlanConfig& config,
                                const ClusterPlan& plan) {
  const PickedGrid picked = pick_grid(model, plan.cluster, config.grid, plan.options);
  const GridShape& best = picked.plan.shape;
  return fmt::format(
      "Recommended: --data-parallel-size {} --pipeline-parallel-size {} --tensor-parallel-size "
      "{}\n{}\n",
      best.data, best.pipeline, best.tensor, picked.explanation);
}

int run_plan(std::span<const std::string> arguments) {
  PlanConfig config;
  const std::vector<Flag> flags = plan_flags(config);
  const Settings settings = read_settings(flags, arguments, process_environment());
  if (settings.wants_help || settings.wants_version) {
    fmt::print("{}", settings.wants_help ? help_text(flags, kUsage)
                                         : fmt::format("millrace-plan {}\n", version()));
    return 0;
  }
  apply_settings(flags, settings.values);
  for (const auto& [empty, flag] : {std::pair{config.model.model.empty(), "model"},
                                    std::pair{config.memory_bytes == 0, "gpu-memory"}}) {
    if (empty) {
      throw UserError("--{} is required; see --help", flag);
    }
  }
  const ModelDescription model = model_to_plan(config);
  const ClusterPlan plan = plan_cluster(model, config);
  if (!plan.grids.empty()) fmt::print("{}", table_text(model, plan));
  std::fflush(stdout);
  fmt::print("{}", recommendation_text(model, config, plan));
  return 0;
}

}  // namespace millrace
