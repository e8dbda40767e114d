// Which grid a model runs on, when the user left some of it open: comm's choice
// (comm/choose_grid.hpp), asked with what the model needs.
#pragma once

#include <string>
#include <vector>

#include "core/config/run_config.hpp"
#include "core/plan/grid_plan.hpp"

namespace millrace {

// The machines, as far as the choice depends on them.
struct ClusterShape {
  int ranks = 1;
  int ranks_per_node = 1;  // of the node with the fewest
  // Ranks of a node exchange activations at memory speed: NVLink, or CPUs of one host.
  bool fast_within_node = true;
};

struct PickedGrid {
  GridPlan plan;
  std::string explanation;  // one line: the shape and why
};

// The fewest ranks to a replica that hold the weights and leave a fifth of each rank's memory to
// the cache, so that many sequences share each reading of the weights; where no grid leaves so
// much, that hold the weights and one request of max_model_len tokens. Throws UserError with the
// sizes when nothing fits, or when no grid has the given axes.
PickedGrid pick_grid(const ModelDescription& model, const ClusterShape& cluster,
                     const GridConfig& given, const PlanOptions& options);

// Tensor groups as large as a node, stages over the nodes, so that every kind of link is used.
// Throws UserError when no grid has the given axes.
GridShape pick_grid_without_model(const ClusterShape& cluster, const GridConfig& given);

// Every grid of the cluster with the given axes, the impossible ones included (they say why), few
// tensor ranks first.
std::vector<GridPlan> plan_grids(const ModelDescription& model, const ClusterShape& cluster,
                                 const GridConfig& given, const PlanOptions& options);

}  // namespace millrace
