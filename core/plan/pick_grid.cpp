#include "core/plan/pick_grid.hpp"

#include <algorithm>
#include <map>
#include <numeric>

#include "comm/choose_grid.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

constexpr double kRoomyFraction = 0.2;

// The axis that --pipeline-partition implies is given as well.
std::optional<int> given_pipeline(const GridConfig& given) {
  if (!given.pipeline_partition.empty()) {
    return static_cast<int>(given.pipeline_partition.size());
  }
  return given.pipeline_parallel_size;
}

// The axes that are given take ranks that divide the world's, and all three take all of them.
void check_given_axes(const GridConfig& given, const std::optional<int>& pipeline, int ranks) {
  if (given.data_parallel_size && pipeline && given.tensor_parallel_size) {
    return check_grid_shape({*given.data_parallel_size, *pipeline, *given.tensor_parallel_size},
                            ranks);
  }
  std::int64_t needed = 1;  // of two at most
  std::string axes;
  const auto add = [&](const char* axis, const std::optional<int>& size) {
    if (!size) return;
    needed *= *size;
    axes += fmt::format("{}{} {}", axes.empty() ? "" : " x ", axis, *size);
  };
  add("data", given.data_parallel_size);
  add("pipeline", pipeline);
  add("tensor", given.tensor_parallel_size);
  if (ranks % needed != 0) {
    throw UserError("{} takes {} ranks, or a multiple of them, and there {} {}", axes, needed,
                    ranks == 1 ? "is" : "are", ranks);
  }
}

// By what is left for the cache, not by what it takes: that may be less than it could have.
bool is_roomy(const GridPlan& plan, const PlanOptions& options) {
  return std::ranges::all_of(plan.ranks, [&](const RankPlan& rank) {
    const auto left = static_cast<double>(options.memory_bytes - rank.fixed_bytes());
    return left >= kRoomyFraction * static_cast<double>(options.memory_bytes);
  });
}

int most_heads(const ModelSpec& spec) {
  int heads = 1;
  for (const LayerSpec& layer : spec.layers) {
    heads = std::max(heads, layer.attention.heads);
  }
  return heads;
}

}  // namespace

GridShape pick_grid_without_model(const ClusterShape& cluster, const GridConfig& given) {
  const auto pipeline = given_pipeline(given);
  check_given_axes(given, pipeline, cluster.ranks);
  const int data = given.data_parallel_size.value_or(1);
  const int left = cluster.ranks / (data * pipeline.value_or(1));
  const bool takes_all = given.data_parallel_size && pipeline;
  const int tensor = given.tensor_parallel_size.value_or(
      takes_all ? left : std::gcd(cluster.ranks_per_node, left));
  const int stages = pipeline.value_or(cluster.ranks / (data * tensor));
  return {cluster.ranks / (stages * tensor), stages, tensor};
}

PickedGrid pick_grid(const ModelDescription& model, const ClusterShape& cluster,
                     const GridConfig& given, const PlanOptions& options) {
  const auto pipeline = given_pipeline(given);
  check_given_axes(given, pipeline, cluster.ranks);
  std::map<std::pair<int, int>, GridPlan> plans;  // by pipeline and tensor: replicas are alike
  const auto plan_of = [&](int stages, int tensor) -> const GridPlan& {
    auto [found, is_new] = plans.try_emplace({stages, tensor});
    if (is_new) {
      found->second = plan_grid(model, {1, stages, tensor}, options);
    }
    return found->second;
  };

  GridQuestion question;
  question.world_size = cluster.ranks;
  question.ranks_per_host = cluster.ranks_per_node;
  question.fast_links_in_host = cluster.fast_within_node;
  question.data = given.data_parallel_size;
  question.pipeline = pipeline;
  question.tensor = given.tensor_parallel_size;
  question.most_tensor = most_heads(model.spec);
  question.most_pipeline = static_cast<int>(model.spec.layers.size());
  question.fits = [&](int stages, int tensor) {
    const GridPlan& plan = plan_of(stages, tensor);
    return plan.works() && is_roomy(plan, options);
  };
  GridChoice choice = choose_grid(question);
  if (!question.fits(choice.shape.pipeline, choice.shape.tensor)) {
    question.fits = [&](int stages, int tensor) { return plan_of(stages, tensor).works(); };
    choice = choose_grid(question);
  }
  PickedGrid picked{plan_of(choice.shape.pipeline, choice.shape.tensor), choice.explanation};
  picked.plan.shape = choice.shape;
  if (!picked.plan.works()) {
    throw UserError("{}: {}", to_string(choice.shape), picked.plan.problem);
  }
  return picked;
}

std::vector<GridPlan> plan_grids(const ModelDescription& model, const ClusterShape& cluster,
                                 const GridConfig& given, const PlanOptions& options) {
  const auto agrees = [](const std::optional<int>& wanted, int size) {
    return !wanted || *wanted == size;
  };
  std::vector<GridPlan> plans;
  for (int tensor = 1; tensor <= cluster.ranks; ++tensor) {
    for (int pipeline = 1; tensor * pipeline <= cluster.ranks; ++pipeline) {
      const GridShape shape{cluster.ranks / (tensor * pipeline), pipeline, tensor};
      if (shape.ranks() == cluster.ranks && agrees(given.tensor_parallel_size, tensor) &&
          agrees(given_pipeline(given), pipeline) && agrees(given.data_parallel_size, shape.data)) {
        plans.push_back(plan_grid(model, shape, options));
      }
    }
  }
  return plans;
}

}  // namespace millrace
