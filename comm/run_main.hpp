// What stands between a program of many ranks and its exit code.
#pragma once

#include <functional>
#include <string>

#include "comm/environment.hpp"
#include "comm/watchdog.hpp"

namespace millrace {

// Initializes MPI, starts the watchdog, runs the body and returns its exit code (exit_code.hpp).
// What the body throws becomes one line "<program>: ..." on stderr for the whole job and an exit
// code. When all ranks fail, as after agree(), they leave in good order; when only some do, the job
// is aborted, since the others may wait for them. Stopped, which all ranks throw, needs no line.
//
// From the first moment SIGINT, SIGTERM and SIGUSR1 are the watchdog's: they end the job at once,
// or, once the body has called settle(), ask it to stop. After the body MPI_Finalize gets 20 s.
int run_main(const std::string& program,
             const std::function<int(const Environment&, Watchdog&)>& body,
             const WatchdogLimits& limits = {});
int run_main(const std::string& program, const std::function<int(const Environment&)>& body,
             const WatchdogLimits& limits = {});

}  // namespace millrace
