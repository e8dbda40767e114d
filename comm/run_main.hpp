// What stands between a program's body and its exit code on every rank layout.
#pragma once

#include <functional>

#include "comm/environment.hpp"

namespace millrace {

// Initializes MPI, runs the body and returns its exit code. What the body throws becomes one line
// on stderr for the whole job and the exit code 2 (UserError) or 1 (anything else): when all ranks
// fail, as after agree(), they leave in good order; when only some do, the job is aborted, since
// the others may wait for them.
int run_main(const std::function<int(const Environment&)>& body);

}  // namespace millrace
