// millrace-plan: what each grid of a cluster would hold, before anybody has the cluster. Reads a
// model's configuration only: no weights, no MPI, no GPU.
#pragma once

#include <span>
#include <string>

#include "core/config/run_config.hpp"
#include "core/plan/pick_grid.hpp"

namespace millrace {

struct PlanConfig {
  ModelConfig model;
  GridConfig grid;
  EngineConfig engine;
  std::int64_t memory_bytes = 0;  // of one GPU, or of one CPU host
  int ranks_per_node = 0;
  int nodes = 0;
  bool fast_within_node = true;
};

// The flags of millrace-plan, writing into `config`, which must outlive them.
std::vector<Flag> plan_flags(PlanConfig& config);

// The model as it would be loaded. Throws UserError.
ModelDescription model_to_plan(const PlanConfig& config);

// A plan of a model on a cluster, and its text.
struct ClusterPlan {
  ClusterShape cluster;
  PlanOptions options;
  std::vector<GridPlan> grids;
};

// Throws UserError for values that no plan can be made of.
ClusterPlan plan_cluster(const ModelDescription& model, const PlanConfig& config);
// What was planned, and a line per grid: what it holds and what limits it, or why it cannot run.
std::string table_text(const ModelDescription& model, const ClusterPlan& plan);
// The recommended grid as flags, and the reason. Throws UserError when nothing fits.
std::string recommendation_text(const ModelDescription& model, const PlanConfig& config,
                                const ClusterPlan& plan);

// Parses, reads the model's configuration, prints. Answers the exit code; throws UserError.
int run_plan(std::span<const std::string> arguments);

}  // namespace millrace
