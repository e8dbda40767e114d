#include "core/io/merge.hpp"

#include <algorithm>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "core/io/report.hpp"
#include "core/io/spool_frame.hpp"
#include "core/io/spool_index.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// Spool files, opened when one is needed: a long job of many replicas and restarts can leave more
// of them than a process may hold open.
class OpenFiles {
 public:
  explicit OpenFiles(const std::vector<std::filesystem::path>& paths)
      : paths_(paths), files_(paths.size()) {}

  const PosixFile& operator[](std::uint32_t index) {
    if (!files_[index].is_open()) {
      if (opened_.size() == most_open) {
        files_[opened_.front()] = PosixFile();
        opened_.pop_front();
      }
      files_[index] = PosixFile::open(paths_[index]);
      opened_.push_back(index);
    }
    return files_[index];
  }

 private:
  static constexpr std::size_t most_open = 256;
  const std::vector<std::filesystem::path>& paths_;
  std::vector<PosixFile> files_;
  std::deque<std::uint32_t> opened_;  // oldest first
};

// Walks along the answered lines and notes where they do not tile the prompt file.
class Audit {
 public:
  explicit Audit(const SpoolHeader& header)
      : end_(header.prompt_end), answered_to_(header.prompt_begin) {}

  // True when the entry answers the line that is next.
  bool add(const SpoolEntry& entry) {
    if (entry.line_offset < answered_to_) {
      if (surplus_++ == 0) {
        first_surplus_ = entry.line_offset;
      }
      return false;
    }
    note_gap(entry.line_offset);
    answered_to_ = entry.line_offset + entry.line_bytes;
    return true;
  }

  // Throws when any byte is not answered, or any line more than once.
  void finish(const SpoolDamage& damage) {
    note_gap(end_);
    if (gaps_ == 0 && surplus_ == 0) {
      return;
    }
    std::string what = "the spool does not hold one result per prompt:";
    if (gaps_ > 0) {
      what += fmt::format(
          " {} bytes of the prompt file have none (in {} places, the first bytes {} to {})",
          with_commas(missing_bytes_), with_commas(gaps_), first_gap_.begin, first_gap_.end);
    }
    if (surplus_ > 0) {
      what +=
          fmt::format("{} {} results are for lines that have one already (the first at byte {})",
                      gaps_ > 0 ? "," : "", with_commas(surplus_), first_surplus_);
    }
    if (damage.any()) {
      what += fmt::format("; it is damaged: {} damaged frames, {} bytes torn off",
                          with_commas(damage.damaged_frames), with_commas(damage.torn_bytes));
    }
    throw UserError(what);
  }

 private:
  void note_gap(std::int64_t to) {
    if (to > answered_to_) {
      if (gaps_++ == 0) {
        first_gap_ = {answered_to_, to};
      }
      missing_bytes_ += to - answered_to_;
    }
  }

  std::int64_t end_;
  std::int64_t answered_to_;
  std::int64_t gaps_ = 0;
  std::int64_t missing_bytes_ = 0;
  ByteRange first_gap_;
  std::int64_t surplus_ = 0;
  std::int64_t first_surplus_ = 0;
};

}  // namespace

MergeResult merge_spool(const MergeOptions& options, const MergeConsumer& consumer) {
  SpoolIndex index(options.folder, options.memory_bytes);
  // When too few bytes are answered, nothing is handed out: the walk only finds what to say.
  const std::int64_t wanted_bytes = index.header().prompt_end - index.header().prompt_begin;
  const bool complete = index.answered_bytes() >= wanted_bytes;
  Audit audit(index.header());
  OpenFiles files(index.files());
  MergeResult result;
  result.damage = index.damage();
  while (const auto entry = index.next()) {
    if (audit.add(*entry) && complete) {
      consumer(result.lines++, read_request(files[entry->file], *entry));
    }
  }
  audit.finish(index.damage());
  return result;
}

}  // namespace millrace
