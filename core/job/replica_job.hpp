// One replica's part of a job: its ranks run the engine, and its leader feeds it with prompts and
// writes what comes out to the spool.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <vector>

#include "comm/grid.hpp"
#include "comm/stop_request.hpp"
#include "core/config/run_config.hpp"
#include "core/io/progress.hpp"
#include "core/io/report.hpp"
#include "core/io/timeline.hpp"
#include "core/job/job_clock.hpp"
#include "core/job/journal.hpp"
#include "core/job/model_text.hpp"
#include "core/job/rank_model.hpp"

namespace millrace {

// What a leader knows when its replica is done.
struct ReplicaOutcome {
  ProgressCounters counters;
  std::vector<TimelineRow> timeline;
  std::int64_t preemptions = 0;
  std::int64_t peak_running = 0;   // sequences at once
  double first_token_seconds = 0;  // on the job's clock; 0: there was none
  double started_seconds = 0;      // first prompt asked for
  double finished_seconds = 0;     // last request finished
  bool is_complete = true;         // no prompt was left because the job stops
  std::int64_t dropped = 0;        // prompts taken from the file and not answered
};

// Sets the engine up, calls `ready` on all ranks once the engine of every rank stands, with this
// rank's row for the report (weights, activations, cache), then runs the replica's share of the
// journal's work until `stop` says otherwise. `text` is the model's, on leaders; other ranks give
// an invalid future. Leaders get the outcome, the others an empty one. Throws on all ranks alike up
// to `ready`. Collective over the grid.
ReplicaOutcome run_replica(const Grid& grid, const JobPlan& plan, const RankModel& rank,
                           std::future<ModelText> text, const RunConfig& config,
                           const Journal& journal, const JobClock& clock, const StopRequest& stop,
                           const std::function<void(const KvCacheRow& memory)>& ready);

}  // namespace millrace
