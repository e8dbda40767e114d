// What stands between a program of many ranks and its exit code.
#pragma once

#include <functional>
#include <string>

#include "comm/environment.hpp"

namespace millrace {

// Initializes MPI, starts the watchdog, runs the body and returns its exit code. What the body
// throws becomes one line "<program>: ..." on stderr for the whole job and the exit code 2
// (UserError) or 1 (anything else). When all ranks fail, as after agree(), they leave in good
// order; when only some do, the job is aborted, since the others may wait for them.
int run_main(const std::string& program, const std::function<int(const Environment&)>& body);

}  // namespace millrace
