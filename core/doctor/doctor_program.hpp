// millrace-doctor: is the cluster healthy for a job of this model on this grid? Looks at every
// rank, measures every link, names what differs or is slow, and says what helps.
#pragma once

#include <span>
#include <string>

#include "comm/comm.hpp"
#include "core/config/run_config.hpp"

namespace millrace {

struct DoctorConfig {
  RunConfig run;        // model, grid, links, engine, prompts and output; the rest is not asked for
  bool strict = false;  // warnings count as failures
  double limit_seconds = 0;  // of each check
};

// The flags of millrace-doctor, writing into `config`, which must outlive them.
std::vector<Flag> doctor_flags(DoctorConfig& config);

// Answers the exit code: 0 healthy, 1 not. Throws UserError for flags. Collective over `world`.
int run_doctor(const Comm& world, std::span<const std::string> arguments);

}  // namespace millrace
