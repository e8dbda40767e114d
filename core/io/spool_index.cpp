#include "core/io/spool_index.hpp"

#include <algorithm>

#include "kernels/base/error.hpp"

namespace millrace {

SpoolIndex::SpoolIndex(const std::filesystem::path& folder, std::int64_t memory_bytes)
    : files_(spool_files(folder)), sorter_(folder, memory_bytes) {
  if (files_.empty()) {
    throw UserError("no spool files in {}", folder.string());
  }
  for (std::uint32_t file = 0; file < files_.size(); ++file) {
    read(file);
  }
}

void SpoolIndex::read(std::uint32_t file) {
  SpoolReader reader(files_[file]);
  const SpoolHeader& header = reader.header();
  if (file == 0) {
    header_ = header;
  } else if (header.fingerprint != header_.fingerprint ||
             header.prompt_begin != header_.prompt_begin ||
             header.prompt_end != header_.prompt_end) {
    throw UserError(
        "{} and {} belong to different jobs: fingerprint {}, bytes {} to {} of the prompts; "
        "fingerprint {}, bytes {} to {}",
        files_[0].string(), files_[file].string(), header_.fingerprint, header_.prompt_begin,
        header_.prompt_end, header.fingerprint, header.prompt_begin, header.prompt_end);
  }
  while (auto entry = reader.next()) {
    entry->file = file;
    sorter_.add(*entry);
    ++results_;
    answered_bytes_ += entry->line_bytes;
  }
  damage_.torn_bytes += reader.damage().torn_bytes;
  damage_.damaged_frames += reader.damage().damaged_frames;
}

std::vector<ByteRange> unanswered_ranges(SpoolIndex& index) {
  std::vector<ByteRange> ranges;
  std::int64_t answered_to = index.header().prompt_begin;
  while (const auto entry = index.next()) {
    if (entry->line_offset > answered_to) {
      ranges.push_back({answered_to, entry->line_offset});
    }
    answered_to = std::max(answered_to, entry->line_offset + entry->line_bytes);
  }
  if (answered_to < index.header().prompt_end) {
    ranges.push_back({answered_to, index.header().prompt_end});
  }
  return ranges;
}

}  // namespace millrace
