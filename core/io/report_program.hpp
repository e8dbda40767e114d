// millrace-report: what a result file says. Prints a summary, converts to JSON Lines, writes an
// HTML page; recovers what a dead job answered, merges the results of shards.
#pragma once

#include <span>
#include <string>

namespace millrace {

// Answers the exit code; throws UserError.
int run_report(std::span<const std::string> arguments);

}  // namespace millrace
