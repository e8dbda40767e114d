// Which grid to run on, when the user left some of it open.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/config/run_config.hpp"
#include "core/plan/grid_plan.hpp"

namespace millrace {

// The machines, as far as the choice depends on them.
struct ClusterShape {
  int ranks = 1;
  int ranks_per_node = 1;  // of the node with the most
  // Ranks of a node exchange activations at memory speed: NVLink, or CPUs of one host.
  bool fast_within_node = true;
};

// Every data x pipeline x tensor shape of the cluster's size that agrees with what the user fixed,
// each planned. Throws UserError when there is none, naming the sizes.
std::vector<GridPlan> plan_grids(const ModelDescription& model, const ClusterShape& cluster,
                                 const GridConfig& given, const PlanOptions& options);

struct GridChoice {
  std::size_t index = 0;  // into the plans
  std::string reason;     // one line
};

// The smallest sharding (pipeline x tensor) that holds the weights and leaves at least a fifth of
// the rank's memory to the cache, so that many sequences share each reading of the weights; what is
// left of the world is replicas. Among shardings of equal size: tensor parallelism within a fast
// node, pipeline stages elsewhere. When none leaves so much, the one that holds the most requests.
// Throws UserError when no plan works.
GridChoice choose_grid(std::span<const GridPlan> plans, const ClusterShape& cluster,
                       const PlanOptions& options);

}  // namespace millrace
