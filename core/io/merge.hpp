// From the spool to the result: an external merge of all spool files into the order of the prompt
// file, in bounded memory. What is sorted is not the requests but where they lie (24 bytes each):
// runs of at most `memory_bytes` go to one unnamed temporary file and are merged from there; each
// request is then read once, from its place in the spool. A line's index is the number of lines
// before it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "core/io/spool.hpp"

namespace millrace {

struct MergeOptions {
  std::filesystem::path folder;          // OUTPUT.spool
  std::int64_t memory_bytes = 16 << 20;  // for sorting
  // When false, lines without an answer are left out (index still counts them) instead of being an
  // error: what can be recovered from a job that died.
  bool require_all_lines = true;
};

struct MergeResult {
  std::int64_t lines = 0;     // of the prompt file, as far as ranges were counted
  std::int64_t requests = 0;  // handed to the consumer
  std::int64_t missing = 0;   // lines without an answer (only without require_all_lines)
  SpoolDamage damage;         // over all files
};

// Called once per request, indices ascending.
using MergeConsumer = std::function<void(std::int64_t index, FinishedRequest&& request)>;

// Throws UserError when there is no spool, when the files belong to different jobs (fingerprint or
// prompt size differ), when a line was answered more than once, and, with require_all_lines, when
// the counted ranges do not cover the prompt file or any line has no answer: the counts are named.
MergeResult merge_spool(const MergeOptions& options, const MergeConsumer& consumer);

}  // namespace millrace
