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
  Audit(std::int64_t begin, std::int64_t end) : end_(end), answered_to_(begin) {}

  enum class Verdict { next, again, overlap };

  // What an entry is: the answer to the line that comes next, to the one before once more, or to
  // bytes that are no line of their own.
  Verdict add(const SpoolEntry& entry) {
    if (entry.line_offset >= answered_to_) {
      last_ = entry;
      answered_to_ = entry.line_offset + entry.line_bytes;
      return Verdict::next;
    }
    if (entry.line_offset == last_.line_offset && entry.line_bytes == last_.line_bytes) {
      return Verdict::again;
    }
    if (overlaps_++ == 0) {
      first_overlap_ = entry.line_offset;
    }
    return Verdict::overlap;
  }

  // The bytes between the last answered line and `to`, which nothing answers.
  ByteRange gap_before(std::int64_t to) const { return {answered_to_, std::max(answered_to_, to)}; }
  ByteRange gap_at_end() const { return gap_before(end_); }

  void note_missing(ByteRange gap) {
    if (gap.bytes() > 0) {
      if (gaps_++ == 0) {
        first_gap_ = gap;
      }
      missing_bytes_ += gap.bytes();
    }
  }

  // Throws when any byte is missing, or any answer overlaps another.
  void finish(const SpoolDamage& damage) const {
    if (gaps_ == 0 && overlaps_ == 0) {
      return;
    }
    std::string what = "the spool does not hold one result per prompt:";
    if (gaps_ > 0) {
      what += fmt::format(
          " {} bytes of the prompt file have none (in {} place{}, the first bytes {} to {})",
          with_commas(missing_bytes_), with_commas(gaps_), gaps_ == 1 ? "" : "s", first_gap_.begin,
          first_gap_.end);
    }
    if (overlaps_ > 0) {
      what += fmt::format("{} {} results overlap others (the first at byte {})",
                          gaps_ > 0 ? "," : "", with_commas(overlaps_), first_overlap_);
    }
    if (damage.any()) {
      what += "; it is damaged: " + describe(damage);
    }
    throw UserError(what);
  }

 private:
  std::int64_t end_;
  std::int64_t answered_to_;
  SpoolEntry last_{.line_offset = -1};
  std::int64_t gaps_ = 0;
  std::int64_t missing_bytes_ = 0;
  ByteRange first_gap_;
  std::int64_t overlaps_ = 0;
  std::int64_t first_overlap_ = 0;
};

}  // namespace

MergeResult merge_spool(const MergeOptions& options, const MergeConsumer& consumer) {
  SpoolIndex index(options.folder, options.memory_bytes);
  if (!index.header()) {
    throw UserError("no {}spool files in {}", index.files().empty() ? "" : "sound ",
                    options.folder.string());
  }
  const SpoolHeader& header = *index.header();
  // When too few bytes are answered, nothing is handed out: the walk only finds what to say.
  const bool hand_out =
      options.on_gap || index.answered_bytes() >= header.prompt_end - header.prompt_begin;
  Audit audit(header.prompt_begin, header.prompt_end);
  OpenFiles files(index.files());
  MergeResult result;
  result.damage = index.damage();
  const auto pass_gap = [&](ByteRange gap) {
    if (!options.on_gap) {
      audit.note_missing(gap);
    } else if (gap.bytes() > 0) {
      const std::int64_t lines =
          options.on_gap(gap, options.first_index + result.lines + result.unanswered);
      result.unanswered += lines;
    }
  };
  while (const auto entry = index.next()) {
    pass_gap(audit.gap_before(entry->line_offset));
    const Audit::Verdict verdict = audit.add(*entry);
    result.doubles += verdict == Audit::Verdict::again ? 1 : 0;
    if (verdict == Audit::Verdict::next && hand_out) {
      consumer(options.first_index + result.lines + result.unanswered, index.run(entry->file),
               read_request(files[entry->file], *entry));
      ++result.lines;
    }
  }
  pass_gap(audit.gap_at_end());
  audit.finish(index.damage());
  return result;
}

}  // namespace millrace
