#include "core/io/journal_status.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/io/journal_lock.hpp"
#include "core/io/posix_file.hpp"
#include "core/io/report.hpp"
#include "core/io/results.hpp"
#include "core/io/spool_index.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t sort_memory_bytes = 8 << 20;

std::int64_t bytes_behind_header(const fs::path& spool) {
  const SpoolReader reader(spool);
  return PosixFile::open(spool).size() - reader.position();
}

bool is_locked(const fs::path& file) { return !PosixFile::open(file).try_lock(true); }

}  // namespace

JournalStatus journal_status(const fs::path& output) {
  result_format(output);  // refuses what no job writes
  JournalStatus status;
  status.has_result = fs::exists(output);
  const fs::path folder = spool_folder(output);
  status.holder = journal_holder(folder);
  SpoolIndex index(folder, sort_memory_bytes);
  status.is_written = !status.holder.empty() || std::ranges::any_of(index.files(), is_locked);
  status.damage = index.damage();
  if (!index.header()) return status;
  status.job_bytes = index.header()->prompt_end - index.header()->prompt_begin;
  std::set<std::int32_t> runs;
  for (std::uint32_t file = 0; file < index.files().size(); ++file) runs.insert(index.run(file));
  status.runs = static_cast<std::int32_t>(runs.size());
  std::int64_t answered_to = index.header()->prompt_begin;
  while (const auto entry = index.next()) {
    if (entry->line_offset < answered_to) continue;  // answered twice
    ++status.answered;
    status.answered_bytes += entry->line_bytes;
    answered_to = entry->line_offset + entry->line_bytes;
  }
  return status;
}

std::string status_text(const fs::path& output, const JournalStatus& status) {
  const std::string folder = spool_folder(output).string();
  std::string text;
  if (status.runs > 0) {
    text += fmt::format("journal       {}: {} run{}, {}\n", folder, status.runs,
                        status.runs == 1 ? "" : "s",
                        status.is_written ? "being written" : "nobody writes to it");
    text += fmt::format("answered      {} prompts, {} of the {} bytes of the job's prompts\n",
                        with_commas(status.answered), with_commas(status.answered_bytes),
                        with_commas(status.job_bytes));
  }
  if (status.damage.any()) text += fmt::format("damaged       {}\n", describe(status.damage));
  std::string next;
  if (status.is_written) {
    next = "wait: the job runs";
    if (!status.holder.empty()) next += fmt::format(", {}", status.holder);
  } else if (status.has_result) {
    next = fmt::format("nothing: {} is there", output.string());
  } else if (status.runs == 0) {
    next = fmt::format("begin: there is neither {} nor an answer in {}", output.string(), folder);
  } else if (status.answered_bytes < status.job_bytes) {
    next = "the job's command with --resume answers the rest";
  } else {
    next = "the job's command with --resume writes the result";
  }
  return text + fmt::format("next          {}\n", next);
}

std::int64_t answer_bytes(const fs::path& output) {
  std::int64_t total = 0;
  for (const fs::path& path : spool_files(spool_folder(output))) {
    try {
      total += bytes_behind_header(path);
    } catch (const UnreadableSpool&) {
      // A start that died while it wrote the header.
    }
  }
  return total;
}

bool is_without_answers(const fs::path& spool_folder) {
  return std::ranges::all_of(spool_files(spool_folder), [](const fs::path& path) {
    try {
      return bytes_behind_header(path) == 0;
    } catch (const UserError&) {
      return false;  // whoever resumes the job hears of it
    }
  });
}

}  // namespace millrace
