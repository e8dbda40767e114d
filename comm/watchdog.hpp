// The job's watchdog: a thread on every rank that sleeps, and a few times a minute tells rank 0
// that its rank lives and how far it is. A rank that dies, loses its host's network, hangs or fails
// takes the whole job down within seconds, and one line on stderr names it.
//
// Rank 0 judges the others, the others judge rank 0. A stopped clock is not silence: time counts
// only while the judge itself is running, so a job that is suspended as a whole goes on afterwards.
#pragma once

#include <memory>
#include <string>

#include "comm/comm.hpp"
#include "comm/progress.hpp"

namespace millrace {

struct WatchdogLimits {
  double beat_seconds = 2;      // between two signs of life
  double silence_seconds = 20;  // without one a rank is taken for dead
  // So long no rank has begun a step or an exchange although they are in the steps: some rank
  // hangs. Exchanges count on a single rank too, so a step has two for every layer of the model.
  double stall_seconds = 300;
  double grace_seconds = 0.5;  // for ranks that fail together to say so
};

// What ended a rank's work.
struct Failure {
  int exit_code = 1;
  bool is_peers = false;  // another rank's error, which that rank reports itself
  std::string message;
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

  // This rank's work failed. When all ranks' did, as after agree(), one line is printed and each
  // returns the exit code to leave with. Else the line is printed and the job aborted with the
  // code.
  int fail(const Failure& failure);

 private:
  class Thread;
  std::unique_ptr<Thread> thread_;  // none on a single rank
  std::string program_;
};

}  // namespace millrace
