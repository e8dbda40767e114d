// Runs a workload through the engine, as a job would, and holds it beside its roofline.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/throughput/roofline.hpp"
#include "comm/grid.hpp"
#include "core/engine/replica.hpp"
#include "core/job/rank_model.hpp"

namespace millrace::bench {

// The model as all runs of this process use it.
struct Engine {
  const Grid& grid;
  const JobPlan& plan;
  const RankModel& rank;
  ModelCost cost;
  Ceilings replica;  // of all ranks of a replica together
};

struct WorkloadRun {
  bool is_complete = true;         // false when the time limit has ended it
  double seconds = 0;              // the slowest replica's, from the first step to the last
  std::int64_t prompt_tokens = 0;  // of all replicas, like what follows
  std::int64_t output_tokens = 0;
  std::int64_t preemptions = 0;
  std::int64_t cache_tokens = 0;  // of one replica
  // Of replica 0, on its leader; elsewhere empty or 0.
  std::vector<StepRecord> steps;
  double waited_seconds = 0;           // of `seconds`: the host, for the device or for other ranks
  double roofline_seconds = 0;         // over these steps
  double ideal_seconds = 0;            // over an ideal schedule of the replica's requests
  double ideal_tokens_per_second = 0;  // that this gives: output tokens
};

// Collective over the grid. A run that is not done after `time_limit` seconds is ended; 0: never.
// What a long one has done so far goes to stderr every 15 seconds, so that a run which something
// else cuts off leaves more than nothing.
WorkloadRun run_workload(const Engine& engine, const Workload& workload, double time_limit = 0);

}  // namespace millrace::bench
