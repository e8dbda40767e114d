// The configuration that all ranks of a job share.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/comm.hpp"
#include "core/config/run_config.hpp"

namespace millrace {

// What rank 0 read for all ranks.
struct AgreedSettings {
  std::vector<Setting> values;
  std::vector<std::string> remarks;  // for the log; on rank 0 only
};

// Rank 0 reads its command line, its environment and the config file for all: launchers do not
// carry variables to other hosts alike. Nothing when --help or --version was asked for and printed.
// Throws UserError on all ranks alike. Collective.
std::optional<AgreedSettings> agree_on_settings(const Comm& world, std::span<const Flag> flags,
                                                std::string_view program, std::string_view usage,
                                                std::span<const std::string> arguments);

struct AgreedConfig {
  RunConfig run;
  std::vector<std::string> remarks;  // for the log; on rank 0 only
};

// The same for the flags of `millrace`. Collective.
std::optional<AgreedConfig> agree_on_config(const Comm& world,
                                            std::span<const std::string> arguments);

}  // namespace millrace
