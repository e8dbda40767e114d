// All results in a job's spool files, in the order of the lines they answer, in bounded memory:
// what the merge walks along, and what a resumed job asks for the rest of its work.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comm/work_ranges.hpp"
#include "core/io/external_sort.hpp"
#include "core/io/spool.hpp"

namespace millrace {

// Says what keeps two headers from being of one job; empty when nothing does.
std::string first_difference(const SpoolHeader& was, const SpoolHeader& is);

class SpoolIndex {
 public:
  // Reads every spool file in `folder` once; one without a sound header counts as damage. Sorts
  // within `memory_bytes`; what is more goes to an unnamed file in the folder. Throws UserError
  // when the files belong to different jobs (fingerprint or part of the prompt file differ), and
  // what `on_result`, called for each result read, throws.
  SpoolIndex(const std::filesystem::path& folder, std::int64_t memory_bytes,
             const std::function<void()>& on_result = {});

  // The first sound file's; the others agree, but for run and replica. Nothing when there is none.
  const std::optional<SpoolHeader>& header() const { return header_; }
  const std::vector<std::filesystem::path>& files() const { return files_; }
  std::int32_t run(std::uint32_t file) const { return runs_[file]; }  // that wrote files()[file]
  std::int64_t results() const { return results_; }
  std::int64_t answered_bytes() const { return answered_bytes_; }  // sum of the lines' bytes
  const SpoolDamage& damage() const { return damage_; }            // over all files

  // The next result in the order of the prompt file; its `file` is a position in files().
  std::optional<SpoolEntry> next() { return sorter_.next(); }

 private:
  void read(std::uint32_t file, const std::function<void()>& on_result);

  std::vector<std::filesystem::path> files_;
  std::vector<std::int32_t> runs_;
  std::optional<SpoolHeader> header_;
  EntrySorter sorter_;
  std::int64_t results_ = 0;
  std::int64_t answered_bytes_ = 0;
  SpoolDamage damage_;
};

// The bytes of the prompt file from `begin` to `end` that no result answers yet, ascending: the
// work that is left (WorkRanges). Each begins where a line begins. There are few, about as many as
// requests were under way when the job ended, since results come about in the order of the file.
std::vector<ByteRange> unanswered_ranges(SpoolIndex& index, std::int64_t begin, std::int64_t end);

}  // namespace millrace
