// How a job ends before its end: by a signal or because its time runs out. Every rank learns of it
// through the watchdog; the replicas' leaders decide step by step what that means (Replica), and
// what is finished is in the journal for --resume.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "comm/comm.hpp"
#include "comm/watchdog.hpp"
#include "core/config/run_config.hpp"
#include "core/job/job_clock.hpp"
#include "core/job/replica_job.hpp"

namespace millrace {

// Tells the watchdog how this job wants to stop, and how long a hang may take. Rank 0's clock and
// environment count.
void settle_stop(Watchdog& watchdog, const RunConfig& config, const JobClock& clock);

// When the job's time is over, by Slurm's clock: SLURM_JOB_END_TIME, in seconds since 1970.
struct SlurmEnd {
  std::string text;
  std::chrono::system_clock::time_point now;
};
// When a job that started at `start` has to begin to stop, so that the grace and the closing are
// over when its time is; nullopt: never. --time-limit wins over Slurm; a text of Slurm's that is no
// number says nothing.
std::optional<StopRequest::Clock::time_point> stop_time(const StopConfig& config,
                                                        StopRequest::Clock::time_point start,
                                                        StopRequest::Clock::time_point now,
                                                        const std::optional<SlurmEnd>& slurm);

// Whether the job ends here because a replica has stopped before its last prompt; rank 0 says so.
// `mine` is this rank's outcome. Collective.
bool has_stopped(const Comm& world, const StopRequest& stop, const ReplicaOutcome& mine);

}  // namespace millrace
