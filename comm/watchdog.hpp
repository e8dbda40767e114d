// The job's watchdog: a thread on every rank that sleeps most of the time, and every two seconds
// tells rank 0 that its rank lives and how far it is. A rank that dies, loses its host's network,
// hangs or fails takes the whole job down within seconds, and one line on stderr names it. By the
// same way all ranks learn that the job is to stop before its end.
//
// Rank 0 judges the others, the others judge rank 0. A stopped clock is not silence: time counts
// only while the judge itself is running, so a job that is suspended as a whole goes on afterwards.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "comm/comm.hpp"
#include "comm/progress.hpp"
#include "comm/stop_request.hpp"

namespace millrace {

struct WatchdogLimits {
  double beat_seconds = 2;      // between two signs of life
  double silence_seconds = 20;  // without one a rank is taken for dead
  // So long no rank has begun a step or an exchange although they are in the steps: some rank
  // hangs. Exchanges count on a single rank too, so a step has two for every layer of the model.
  double stall_seconds = 300;
  double consent_seconds = 0.5;  // for ranks that fail together to say so
};

// What ended a rank's work.
struct Failure {
  int exit_code = 1;
  bool is_peers = false;  // another rank's error, which that rank reports itself
  std::string message;
};

// How a job that can stop in good order wants to.
struct StopTerms {
  double grace_seconds = 30;  // from the request until the job drops what still runs
  // When to stop without being asked, and what to call it; rank 0's counts.
  std::optional<StopRequest::Clock::time_point> stop_at = {};
  std::string stop_at_reason = "the time limit";
  // Called on rank 0 with the reason, on the watchdog's thread.
  std::function<void(const std::string& reason)> announce = {};
};

class Watchdog {
 public:
  // Collective over `world`. `program` begins the line on stderr. The calling thread's Progress is
  // watched until the watchdog is destroyed.
  Watchdog(const Comm& world, std::string program, const WatchdogLimits& limits = {});
  // This rank has done its work; it stays watchful until all ranks have.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // From now on this program looks at stop_request(), on all ranks: a signal (StopSignals) on any
  // rank, or the time, makes the request on every rank. Before that, and for programs that never
  // call it, a signal ends the job at once. `stall_seconds` replaces the limit's.
  void settle(double stall_seconds, const StopTerms& terms);
  const StopRequest& stop_request() const { return stop_request_; }

  // This rank's work failed. When all ranks' did, as after agree(), one line is printed and each
  // returns the exit code to leave with. Else the line is printed and the job aborted with the
  // code.
  int fail(const Failure& failure);

 private:
  class Thread;
  StopRequest stop_request_;
  std::unique_ptr<Thread> thread_;
};

}  // namespace millrace
