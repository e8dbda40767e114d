#include "core/io/spool_index.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/base/error.hpp"

namespace millrace {

std::string first_difference(const SpoolHeader& was, const SpoolHeader& is) {
  if (const auto found = differences(was.fingerprint, is.fingerprint); !found.empty()) {
    return found.front();
  }
  if (was.prompt_begin != is.prompt_begin || was.prompt_end != is.prompt_end) {
    return fmt::format("the part of the prompts (--shard) was bytes {} to {}, is {} to {}",
                       was.prompt_begin, was.prompt_end, is.prompt_begin, is.prompt_end);
  }
  return "";
}

SpoolIndex::SpoolIndex(const std::filesystem::path& folder, std::int64_t memory_bytes,
                       const std::function<void()>& on_result)
    : files_(spool_files(folder)), runs_(files_.size()), sorter_(folder, memory_bytes) {
  for (std::uint32_t file = 0; file < files_.size(); ++file) {
    try {
      read(file, on_result);
    } catch (const UnreadableSpool&) {
      ++damage_.unreadable_files;
    }
  }
}

void SpoolIndex::read(std::uint32_t file, const std::function<void()>& on_result) {
  SpoolReader reader(files_[file]);
  const SpoolHeader& header = reader.header();
  runs_[file] = header.run;
  if (!header_) {
    header_ = header;
  } else if (const std::string difference = first_difference(*header_, header);
             !difference.empty()) {
    throw UserError("the files in {} belong to different jobs: in {}, {}",
                    files_[file].parent_path().string(), files_[file].filename().string(),
                    difference);
  }
  while (auto entry = reader.next()) {
    if (on_result) on_result();
    entry->file = file;
    sorter_.add(*entry);
    ++results_;
    answered_bytes_ += entry->line_bytes;
  }
  damage_.torn_bytes += reader.damage().torn_bytes;
  damage_.damaged_frames += reader.damage().damaged_frames;
}

std::vector<ByteRange> unanswered_ranges(SpoolIndex& index, std::int64_t begin, std::int64_t end) {
  std::vector<ByteRange> ranges;
  std::int64_t answered_to = begin;
  while (const auto entry = index.next()) {
    if (entry->line_offset > answered_to) {
      ranges.push_back({answered_to, entry->line_offset});
    }
    answered_to = std::max(answered_to, entry->line_offset + entry->line_bytes);
  }
  if (answered_to < end) {
    ranges.push_back({answered_to, end});
  }
  return ranges;
}

}  // namespace millrace
