// The prompt file of a job, and the part of it that the job answers.
#pragma once

#include <cstdint>
#include <filesystem>

#include "comm/comm.hpp"
#include "comm/work_ranges.hpp"
#include "core/config/run_config.hpp"

namespace millrace {

struct Prompts {
  std::filesystem::path file;
  std::int64_t file_bytes = 0;
  // What the job answers: the lines that begin in it. All of the file, or a shard; both ends are
  // where lines begin, or the file's end.
  ByteRange part;
};

// Throws UserError on all ranks alike when the file cannot be read, is not the same size everywhere
// or is UTF-16. Collective.
Prompts find_prompts(const Comm& world, const RunConfig& config);

// Shard `index` of `count` of a file of so many bytes: the cuts are at equal bytes, each moved on
// to where the next line begins, so that the shards tile the file whoever computes them.
ByteRange shard_of(const std::filesystem::path& file, std::int64_t bytes, int index, int count);

}  // namespace millrace
