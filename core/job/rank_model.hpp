// The model as this rank runs it: its place in the grid and its slice of the weights.
#pragma once

#include <memory>

#include "comm/comm.hpp"
#include "comm/grid.hpp"
#include "comm/stop_request.hpp"
#include "core/batch/sampling_params.hpp"
#include "core/config/run_config.hpp"
#include "core/engine/replica.hpp"
#include "core/model/model_folder.hpp"
#include "core/model/partition.hpp"
#include "core/plan/grid_plan.hpp"
#include "core/weights/loader.hpp"

namespace millrace {

// Which grid to run on, decided alike on all ranks before anything large is read.
struct JobPlan {
  ModelFiles files;
  ModelDescription model;
  SamplingParams sampling;  // of a prompt that says nothing
  Device device;
  PlanOptions options;
  GridPlan grid;
  std::string explanation;  // of the grid, in one line
};

// Throws UserError when --load-format asks for another kind of checkpoint than --model is.
void check_load_format(LoadFormat format, const ModelFiles& files);

// Reads the model's configuration, looks at the hosts and chooses the grid. Throws on all ranks
// alike. Collective over `world`.
JobPlan plan_job(const Comm& world, const RunConfig& config);

// What grid.bind() takes: the largest sum of the model's that may be carried beside products.
std::size_t carried_sum_bytes(const JobPlan& plan);

// This rank's weights, and their plan.
struct RankModel {
  RankSlices slices;
  RankPlan plan;
  RankWeights weights;
};

// The engine's parameters, as far as the plan decides them. On a GPU the engine measures how large
// its cache can be, unless --kv-cache-memory-bytes says it.
ReplicaParameters replica_parameters(const JobPlan& plan, const RankModel& rank);

// Loads this rank's slices. Throws on all ranks when any fails, and Stopped when the job is asked
// to stop meanwhile. Collective over the grid's world.
RankModel load_rank(const Grid& grid, const JobPlan& plan, const RunConfig& config,
                    const StopRequest& stop);

}  // namespace millrace
