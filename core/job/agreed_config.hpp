// The configuration that all ranks of a job share.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comm/comm.hpp"
#include "core/config/run_config.hpp"

namespace millrace {

struct AgreedConfig {
  RunConfig run;
  std::vector<std::string> remarks;  // for the log; on rank 0 only
};

// Rank 0 reads its command line, its environment and the config file, and every rank makes its
// RunConfig of what rank 0 read: launchers do not carry variables to other hosts alike. Nothing
// when --help or --version was asked for and printed. Throws UserError on all ranks alike.
// Collective.
std::optional<AgreedConfig> agree_on_config(const Comm& world,
                                            std::span<const std::string> arguments);

}  // namespace millrace
