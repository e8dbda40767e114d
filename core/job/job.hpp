// A whole job, from the command line to the result file. Every rank of the world runs it.
#pragma once

#include <span>
#include <string>

#include "comm/comm.hpp"
#include "comm/watchdog.hpp"

namespace millrace {

// Answers the exit code. Throws UserError for what the user can mend, on all ranks where the others
// would otherwise wait. Stops in good order when the watchdog asks for it. Collective over `world`.
int run_job(const Comm& world, Watchdog& watchdog, std::span<const std::string> arguments);

}  // namespace millrace
