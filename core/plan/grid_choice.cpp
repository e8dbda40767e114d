#include "core/plan/grid_choice.hpp"

#include <algorithm>
#include <tuple>

#include "core/plan/human_bytes.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

constexpr double kRoomyFraction = 0.2;

int sharding(const GridPlan& plan) { return plan.shape.pipeline * plan.shape.tensor; }

bool crosses_nodes(const GridPlan& plan, const ClusterShape& cluster) {
  return plan.shape.tensor > cluster.ranks_per_node ||
         cluster.ranks_per_node % plan.shape.tensor != 0;
}

// What the cache could have, before it was limited to what the sequences can use.
bool is_roomy(const GridPlan& plan, const PlanOptions& options) {
  return std::ranges::all_of(plan.ranks, [&](const RankPlan& rank) {
    const auto left =
        static_cast<double>(options.memory_bytes - rank.weight_bytes - rank.activation_bytes);
    return left >= kRoomyFraction * static_cast<double>(options.memory_bytes);
  });
}

// Smaller is better.
auto preference(const GridPlan& plan, const ClusterShape& cluster) {
  const bool tensor_is_cheap = cluster.fast_within_node && !crosses_nodes(plan, cluster);
  return std::tuple(sharding(plan), crosses_nodes(plan, cluster),
                    tensor_is_cheap ? -plan.shape.tensor : plan.shape.tensor);
}

std::string sharding_words(const GridPlan& plan, const ClusterShape& cluster) {
  const auto& [data, pipeline, tensor] = plan.shape;
  if (tensor > 1 && pipeline > 1) {
    return "tensor parallel in a node, pipeline across nodes";
  }
  if (tensor > 1) {
    return crosses_nodes(plan, cluster) ? "tensor parallel across nodes"
                                        : "tensor parallel in a node";
  }
  return cluster.fast_within_node ? "pipeline"
                                  : "pipeline, since the ranks of a node share no fast link";
}

std::string smallest_weights(std::span<const GridPlan> plans) {
  const GridPlan* best = nullptr;
  std::int64_t least = 0;
  for (const GridPlan& plan : plans) {
    if (!plan.ranks.empty()) {
      const std::int64_t most =
          std::ranges::max_element(plan.ranks, {}, &RankPlan::weight_bytes)->weight_bytes;
      if (best == nullptr || most < least) {
        best = &plan;
        least = most;
      }
    }
  }
  const GridPlan& shown = best == nullptr ? plans.front() : *best;
  return fmt::format("{} {}", to_string(shown.shape), shown.problem);
}

}  // namespace

std::vector<GridPlan> plan_grids(const ModelDescription& model, const ClusterShape& cluster,
                                 const GridConfig& given, const PlanOptions& options) {
  const auto agrees = [](const std::optional<int>& wanted, int size) {
    return !wanted || *wanted == size;
  };
  const auto stages = static_cast<int>(given.pipeline_partition.size());
  std::vector<GridPlan> plans;
  for (int tensor = 1; tensor <= cluster.ranks; ++tensor) {
    for (int pipeline = 1; tensor * pipeline <= cluster.ranks; ++pipeline) {
      const GridShape shape{cluster.ranks / (tensor * pipeline), pipeline, tensor};
      if (shape.ranks() == cluster.ranks && agrees(given.tensor_parallel_size, tensor) &&
          agrees(given.pipeline_parallel_size, pipeline) &&
          agrees(given.data_parallel_size, shape.data) && (stages == 0 || stages == pipeline)) {
        plans.push_back(plan_grid(model, shape, options));
      }
    }
  }
  if (plans.empty()) {
    const auto word = [](const std::optional<int>& size) {
      return size ? std::to_string(*size) : std::string("any");
    };
    throw UserError(
        "no grid of {} ranks has data {} x pipeline {} x tensor {}: start another number of ranks "
        "or change "
        "--data-parallel-size, --pipeline-parallel-size or --tensor-parallel-size",
        cluster.ranks, word(given.data_parallel_size),
        stages != 0 ? std::to_string(stages) : word(given.pipeline_parallel_size),
        word(given.tensor_parallel_size));
  }
  return plans;
}

GridChoice choose_grid(std::span<const GridPlan> plans, const ClusterShape& cluster,
                       const PlanOptions& options) {
  const GridPlan* best = nullptr;
  bool best_is_roomy = false;
  for (const GridPlan& plan : plans) {
    if (!plan.works()) {
      continue;
    }
    const bool roomy = is_roomy(plan, options);
    const auto total = [](const GridPlan& of) { return of.replica.concurrency * of.shape.data; };
    if (best == nullptr || (roomy && !best_is_roomy) ||
        (roomy == best_is_roomy && (roomy ? preference(plan, cluster) < preference(*best, cluster)
                                          : total(plan) > total(*best)))) {
      best = &plan;
      best_is_roomy = roomy;
    }
  }
  if (best == nullptr) {
    if (plans.size() == 1) {
      throw UserError("{}", smallest_weights(plans));
    }
    throw UserError("the model fits no grid of {} ranks; at best, {}", cluster.ranks,
                    smallest_weights(plans));
  }
  GridChoice choice;
  choice.index = static_cast<std::size_t>(best - plans.data());
  const RankPlan& rank = best->ranks[best->limiting];
  const std::string sizes = fmt::format("{} of weights in {}", human_bytes(rank.weight_bytes),
                                        human_bytes(options.memory_bytes));
  if (plans.size() == 1) {
    choice.reason = "as given";
  } else if (!best_is_roomy) {
    choice.reason = fmt::format(
        "no grid leaves a fifth of the memory to the KV cache; this one holds the "
        "most requests ({} per rank)",
        sizes);
  } else if (sharding(*best) == 1) {
    choice.reason = fmt::format("the model fits one rank ({}), so every rank is a replica", sizes);
  } else {
    choice.reason = fmt::format(
        "the smallest cut that leaves a fifth of the memory to the KV cache ({} per rank): {}",
        sizes, sharding_words(*best, cluster));
  }
  return choice;
}

}  // namespace millrace
