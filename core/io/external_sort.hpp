// Sorts any number of spool entries by the line they answer, in bounded memory: runs of at most
// `memory_bytes` are sorted and written to one unnamed file, and merged from there. When they fit
// into one run, no file is made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "core/io/posix_file.hpp"
#include "core/io/spool.hpp"

namespace millrace {

class EntrySorter {
 public:
  // Temporary files are made in `folder`.
  EntrySorter(std::filesystem::path folder, std::int64_t memory_bytes);

  void add(const SpoolEntry& entry);
  // After the last add(): the entries in ascending order of line_offset, then file, then position.
  std::optional<SpoolEntry> next();

 private:
  // A sorted run and the part of it that is in memory.
  struct Run {
    std::int64_t position = 0;  // in the file, of what is not in memory yet
    std::int64_t end = 0;
    std::vector<SpoolEntry> window;
    std::size_t at = 0;  // in the window
  };

  void spill();
  void start_merge();
  bool fill(Run& run) const;  // false at the run's end

  std::filesystem::path folder_;
  std::size_t run_entries_;
  std::vector<SpoolEntry> entries_;  // of the run being made
  PosixFile file_;
  std::int64_t file_bytes_ = 0;
  std::vector<Run> runs_;
  std::vector<std::size_t> heap_;  // runs by their current entry, smallest first
  bool merging_ = false;
};

}  // namespace millrace
