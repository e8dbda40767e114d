#include "core/job/stop.hpp"

#include <charconv>
#include <cstdlib>

#include "core/io/report.hpp"
#include "core/job/log.hpp"

namespace millrace {
namespace {

using Clock = StopRequest::Clock;

Clock::duration seconds(double count) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(count));
}

std::optional<SlurmEnd> slurm_end() {
  const char* text = std::getenv("SLURM_JOB_END_TIME");
  if (text == nullptr) {
    return std::nullopt;
  }
  return SlurmEnd{text, std::chrono::system_clock::now()};
}

}  // namespace

std::optional<Clock::time_point> stop_time(const StopConfig& config, Clock::time_point start,
                                           Clock::time_point now,
                                           const std::optional<SlurmEnd>& slurm) {
  const auto room = seconds(config.grace_seconds + closing_seconds);
  if (config.time_limit_seconds) {
    if (*config.time_limit_seconds == 0) {
      return std::nullopt;
    }
    return start + seconds(*config.time_limit_seconds) - room;
  }
  if (!slurm) {
    return std::nullopt;
  }
  std::int64_t since_1970 = 0;
  const char* end = slurm->text.data() + slurm->text.size();
  const auto [stop, error] = std::from_chars(slurm->text.data(), end, since_1970);
  // Slurm writes a number near 2^32 for a job without a limit.
  if (error != std::errc() || stop != end || since_1970 >= std::int64_t{1} << 31) {
    return std::nullopt;
  }
  const auto left =
      std::chrono::system_clock::time_point(std::chrono::seconds(since_1970)) - slurm->now;
  return now + std::chrono::duration_cast<Clock::duration>(left) - room;
}

void settle_stop(Watchdog& watchdog, const RunConfig& config, const JobClock& clock) {
  const double grace_seconds = config.stop.grace_seconds;
  StopTerms terms;
  terms.grace_seconds = grace_seconds;
  terms.stop_at = stop_time(config.stop, clock.start(), Clock::now(), slurm_end());
  if (!config.stop.time_limit_seconds) {
    terms.stop_at_reason = "the time limit of the Slurm job";
  }
  terms.announce = [grace_seconds](const std::string& reason) {
    log_info("{}: no prompt is begun any more; what runs has {} s", reason, grace_seconds);
  };
  watchdog.settle(config.stop.watchdog_seconds, terms);
}

bool has_stopped(const Comm& world, const StopRequest& stop, const ReplicaOutcome& mine) {
  if (world.all_reduce_min(mine.is_complete ? 1 : 0) == 1) {
    return false;
  }
  const std::int64_t answered = world.all_reduce_sum(mine.counters.requests_done);
  const std::int64_t dropped = world.all_reduce_sum(mine.dropped);
  log_info("stopped by {}: {} prompts answered, {} dropped; run again with --resume", stop.reason(),
           with_commas(answered), with_commas(dropped));
  return true;
}

}  // namespace millrace
