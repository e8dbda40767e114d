// The results of a job's shards (--shard I/N) into one: `millrace-report --merge OUT IN...`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace millrace {

struct MergeResultsOptions {
  std::filesystem::path output;
  std::vector<std::filesystem::path> inputs;  // in any order; all HDF5, or all JSON Lines
  bool overwrite = false;
};

// Writes `output` (JSON Lines, or HDF5 when the inputs are) in the order of the prompt file and in
// bounded memory; answers its lines. Throws UserError when the inputs do not belong together
// (naming what differs), do not tile the prompt file (naming every gap and overlap), or one is not
// a whole result.
std::int64_t merge_results(const MergeResultsOptions& options);

}  // namespace millrace
