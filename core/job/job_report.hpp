// What a job tells about itself, brought together from all ranks on rank 0.
#pragma once

#include <string>
#include <vector>

#include "comm/grid.hpp"
#include "core/cluster/rank_facts.hpp"
#include "core/config/run_config.hpp"
#include "core/io/report.hpp"
#include "core/job/rank_model.hpp"
#include "core/job/replica_job.hpp"

namespace millrace {

// "0.27 GB on 4 ranks in 0.31 s (0.87 GB/s)": all ranks' bytes, the slowest rank's time.
// Collective.
std::string describe_loading(const Comm& world, const LoadReport& mine);

// Every rank's place and memory into the report: on all ranks the sizes that are the same
// everywhere, on rank 0 the rows; `facts` of all ranks are needed there alone. Collective over the
// grid's world.
void describe_ranks(const Grid& grid, const JobPlan& plan, const std::vector<RankFacts>& facts,
                    const RankModel& rank, const KvCacheRow& memory, Report& report);

// The flags as given, and what was chosen for those that were left open.
std::vector<std::pair<std::string, std::string>> effective_settings(const RunConfig& config,
                                                                    const JobPlan& plan);

// What the replicas did, into rank 0's report. Returns there when the job's first token came, 0
// without one. Collective over the grid's world.
double add_outcomes(const Grid& grid, const ReplicaOutcome& mine, double loaded_seconds,
                    Report& report);

// "20 requests (0 failed), 812 prompt tokens, 1,280 output tokens in 2.31 s" and the rates; nothing
// of a first token where there was none (0).
std::vector<std::string> summary_lines(const Report& report, double first_token_seconds);

}  // namespace millrace
