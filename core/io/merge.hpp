// From the spool to the result: an external merge of all spool files into the order of the prompt
// file, in bounded memory. What is sorted is not the requests but where they lie (32 bytes each);
// each request is then read once, from its place in the spool. A line's index is the number of
// lines before it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "core/io/spool.hpp"

namespace millrace {

struct MergeOptions {
  std::filesystem::path folder;         // OUTPUT.spool
  std::int64_t memory_bytes = 8 << 20;  // for sorting; more goes to an unnamed file in the folder
};

struct MergeResult {
  std::int64_t lines = 0;  // that the job had to answer; each was handed to the consumer once
  SpoolDamage damage;      // over all spool files: what had to be done again by a later run
};

// Called once per line, in the order of the prompt file, with index 0, 1, 2, ...
using MergeConsumer = std::function<void(std::int64_t index, FinishedRequest&& request)>;

// Throws UserError for what SpoolIndex refuses, and when the answered lines do not tile the job's
// bytes of the prompt file exactly: what has no answer, and what has more than one, is counted and
// named. When bytes are missing, that is found before the first request is handed out.
MergeResult merge_spool(const MergeOptions& options, const MergeConsumer& consumer);

}  // namespace millrace
