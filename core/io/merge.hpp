// From the spool to the result: an external merge of all spool files into the order of the prompt
// file, in bounded memory. What is sorted is not the requests but where they lie (32 bytes each);
// each request is then read once, from its place in the spool. A line's index is the number of
// lines before it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "comm/work_ranges.hpp"
#include "core/io/spool.hpp"

namespace millrace {

struct MergeOptions {
  std::filesystem::path folder;         // OUTPUT.spool
  std::int64_t memory_bytes = 8 << 20;  // for sorting; more goes to an unnamed file in the folder
  std::int64_t first_index = 0;         // lines of the prompt file before the job's part of it
  // Called in its turn for bytes that nothing answers; gives the number of their lines, which count
  // in the index. Without it unanswered bytes are an error.
  std::function<std::int64_t(ByteRange gap, std::int64_t index)> on_gap = {};
};

struct MergeResult {
  std::int64_t lines = 0;       // each was handed to the consumer once
  std::int64_t unanswered = 0;  // lines, as on_gap counted them
  std::int64_t doubles = 0;     // results left out: an earlier one answers the line
  SpoolDamage damage;           // over all spool files: what had to be done again by a later run
};

// Called once per line, in the order of the prompt file. `run` is the attempt that answered it.
using MergeConsumer =
    std::function<void(std::int64_t index, std::int32_t run, FinishedRequest&& request)>;

// Throws UserError when there is no spool file, for what SpoolIndex refuses, and when the answered
// lines do not tile the job's bytes of the prompt file: what has no answer, and what overlaps, is
// counted and named. When bytes are missing, that is found before the first request is handed out.
MergeResult merge_spool(const MergeOptions& options, const MergeConsumer& consumer);

}  // namespace millrace
