#include "core/io/merge.hpp"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "core/io/external_sort.hpp"
#include "core/io/report.hpp"
#include "core/io/spool_frame.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// Spool files, opened when one is needed: a long job of many replicas and restarts can leave more
// of them than a process may hold open.
class OpenFiles {
 public:
  explicit OpenFiles(std::vector<std::filesystem::path> paths)
      : paths_(std::move(paths)), files_(paths_.size()) {}

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
  std::vector<std::filesystem::path> paths_;
  std::vector<PosixFile> files_;
  std::deque<std::uint32_t> opened_;  // oldest first
};

// What the first pass over the spool files finds.
struct Survey {
  SpoolHeader header;  // of the first file; the others agree
  std::vector<RangeLines> ranges;
  std::int64_t requests = 0;
  SpoolDamage damage;
};

Survey survey(const std::vector<std::filesystem::path>& files, EntrySorter& sorter) {
  Survey survey;
  std::set<std::tuple<std::int64_t, std::int64_t, std::int64_t>> ranges;
  for (std::uint32_t i = 0; i < files.size(); ++i) {
    SpoolReader reader(files[i]);
    const SpoolHeader& header = reader.header();
    if (i == 0) {
      survey.header = header;
    } else if (header.fingerprint != survey.header.fingerprint ||
               header.prompt_begin != survey.header.prompt_begin ||
               header.prompt_end != survey.header.prompt_end) {
      throw UserError(
          "{} and {} belong to different jobs: fingerprint {}, bytes {} to {} of the prompts; "
          "fingerprint {}, bytes {} to {}",
          files[0].string(), files[i].string(), survey.header.fingerprint,
          survey.header.prompt_begin, survey.header.prompt_end, header.fingerprint,
          header.prompt_begin, header.prompt_end);
    }
    while (auto record = reader.next()) {
      if (record->range) {
        ranges.emplace(record->range->begin, record->range->end, record->range->lines);
      } else {
        record->request->file = i;
        sorter.add(*record->request);
        ++survey.requests;
      }
    }
    survey.damage.torn_bytes += reader.damage().torn_bytes;
    survey.damage.damaged_frames += reader.damage().damaged_frames;
  }
  for (const auto& [begin, end, lines] : ranges) {
    survey.ranges.push_back({begin, end, lines});
  }
  return survey;
}

std::string describe(const SpoolDamage& damage) {
  if (!damage.any()) {
    return "";
  }
  return fmt::format("; the spool is damaged: {} damaged frames, {} bytes torn off",
                     with_commas(damage.damaged_frames), with_commas(damage.torn_bytes));
}

// Walks the sorted entries along the ranges and counts what does not fit.
class Audit {
 public:
  explicit Audit(const std::vector<RangeLines>& tiles) : tiles_(tiles) {}

  // True for the first result of a line.
  bool add(std::int64_t line_offset) {
    if (line_offset == last_offset_) {
      ++duplicates_;
      return false;
    }
    last_offset_ = line_offset;
    while (tile_ < tiles_.size() && line_offset >= tiles_[tile_].end) {
      close_tile();
    }
    ++in_tile_;
    return true;
  }

  // Throws when any line is missing or answered twice.
  void finish(const SpoolDamage& damage) {
    while (tile_ < tiles_.size()) {
      close_tile();
    }
    if (missing_ != 0 || duplicates_ != 0 || surplus_ != 0 || in_tile_ != 0) {
      throw UserError(
          "the spool does not hold one result per prompt: {} lines have none, {} results are for a "
          "line that has one already, {} are for no line{}{}",
          with_commas(missing_), with_commas(duplicates_), with_commas(surplus_ + in_tile_),
          first_bad_.empty() ? "" : ", first in " + first_bad_, describe(damage));
    }
  }

 private:
  void close_tile() {
    const RangeLines& tile = tiles_[tile_];
    const std::int64_t difference = tile.lines - in_tile_;
    (difference > 0 ? missing_ : surplus_) += std::abs(difference);
    if (difference != 0 && first_bad_.empty()) {
      first_bad_ = fmt::format("bytes {} to {} of the prompt file: {} lines, {} results",
                               tile.begin, tile.end, tile.lines, in_tile_);
    }
    in_tile_ = 0;
    ++tile_;
  }

  const std::vector<RangeLines>& tiles_;
  std::size_t tile_ = 0;
  std::int64_t in_tile_ = 0;
  std::int64_t last_offset_ = -1;
  std::int64_t missing_ = 0;
  std::int64_t duplicates_ = 0;
  std::int64_t surplus_ = 0;
  std::string first_bad_;
};

}  // namespace

std::optional<std::vector<RangeLines>> tile(std::span<const RangeLines> ranges, std::int64_t begin,
                                            std::int64_t end) {
  // From the end backwards: which positions can be continued to the end of the file, and by which
  // range.
  std::vector<RangeLines> sorted(ranges.begin(), ranges.end());
  std::ranges::sort(sorted, std::greater<>(), &RangeLines::begin);
  std::map<std::int64_t, const RangeLines*> onward{{end, nullptr}};
  for (const RangeLines& range : sorted) {
    if (range.begin < range.end && onward.contains(range.end)) {
      onward.emplace(range.begin, &range);
    }
  }
  std::vector<RangeLines> tiles;
  for (auto at = onward.find(begin); at != onward.end() && at->second != nullptr;
       at = onward.find(at->second->end)) {
    tiles.push_back(*at->second);
  }
  if (begin != end && tiles.empty()) {
    return std::nullopt;
  }
  return tiles;
}

MergeResult merge_spool(const MergeOptions& options, const MergeConsumer& consumer) {
  const auto paths = spool_files(options.folder);
  if (paths.empty()) {
    throw UserError("no spool files in {}", options.folder.string());
  }
  EntrySorter sorter(options.folder, options.memory_bytes);
  const Survey survey = millrace::survey(paths, sorter);
  const auto tiles = tile(survey.ranges, survey.header.prompt_begin, survey.header.prompt_end);
  if (!tiles) {
    throw UserError(
        "the prompt file was not read to its end: the {} ranges in {} do not cover bytes {} to "
        "{}{}",
        survey.ranges.size(), options.folder.string(), survey.header.prompt_begin,
        survey.header.prompt_end, describe(survey.damage));
  }
  MergeResult result;
  for (const RangeLines& range : *tiles) {
    result.lines += range.lines;
  }
  result.damage = survey.damage;

  // When the totals differ already, nothing is handed out: the walk only finds what to say.
  const bool complete = survey.requests == result.lines;
  Audit audit(*tiles);
  OpenFiles files(paths);
  std::int64_t index = 0;
  while (const auto entry = sorter.next()) {
    if (audit.add(entry->line_offset) && complete) {
      consumer(index++, read_request(files[entry->file], *entry));
    }
  }
  audit.finish(survey.damage);
  return result;
}

}  // namespace millrace
