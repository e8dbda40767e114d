// From the spool to the result: an external merge of all spool files into the order of the prompt
// file, in bounded memory. What is sorted is not the requests but where they lie (24 bytes each);
// each request is then read once, from its place in the spool. A line's index is the number of
// lines before it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <vector>

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

// Throws UserError when there is no spool, when its files belong to different jobs (fingerprint or
// part of the prompt file differ), when the counted ranges do not cover that part, or when any line
// has no result or more than one: the counts are named. Most of that is found before the first
// request is handed out.
MergeResult merge_spool(const MergeOptions& options, const MergeConsumer& consumer);

// Picks of `ranges`, which may overlap when several runs read the same file, those that tile
// [begin, end) without gap or overlap, in order. Empty when none do; no bytes need no range.
std::optional<std::vector<RangeLines>> tile(std::span<const RangeLines> ranges, std::int64_t begin,
                                            std::int64_t end);

}  // namespace millrace
