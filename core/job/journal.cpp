#include "core/job/journal.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "comm/agree.hpp"
#include "core/io/journal_status.hpp"
#include "core/io/line_count.hpp"
#include "core/io/merge.hpp"
#include "core/io/result_reader.hpp"
#include "core/io/results.hpp"
#include "core/io/run_tally.hpp"
#include "core/io/spool_frame.hpp"
#include "core/io/spool_index.hpp"
#include "core/job/log.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr double writers_patience_seconds = 10;
constexpr std::int64_t sort_memory_bytes = 8 << 20;

// Why the result file that is there is not this job's; empty when it is.
std::vector<std::string> result_differences(const fs::path& output, const SpoolHeader& header) {
  if (!fs::exists(report_path(output))) {
    return {
        fmt::format("{}, which would say whose it is, is not there", report_path(output).string())};
  }
  const JobReport job = ResultReader(report_path(output)).report().job;
  std::vector<std::string> found = differences(job.fingerprint, header.fingerprint);
  if (job.prompt_begin != header.prompt_begin || job.prompt_end != header.prompt_end) {
    found.push_back(fmt::format("--shard was bytes {} to {} of the prompts, is {} to {}",
                                job.prompt_begin, job.prompt_end, header.prompt_begin,
                                header.prompt_end));
  }
  if (job.unanswered > 0) {
    found.push_back(fmt::format("{} of its prompts are not answered", with_commas(job.unanswered)));
  }
  return found;
}

// True when the output is there and is this job's. Throws when it is another's that may not be
// replaced.
bool result_is_there(const RunConfig& config, const SpoolHeader& header) {
  const fs::path output = config.output.output;
  if (!fs::exists(output)) {
    return false;
  }
  const std::vector<std::string> found = result_differences(output, header);
  if (found.empty()) {
    return true;
  }
  if (!config.output.overwrite) {
    throw UserError("--resume: {} is not the result of this job: {}; --overwrite replaces it",
                    output.string(), fmt::join(found, "; "));
  }
  return false;
}

// A job that died between giving the report and the result their names leaves the report.
void remove_own_report(const RunConfig& config, const SpoolHeader& header) {
  const fs::path output = config.output.output;
  const fs::path report = report_path(output);
  if (report != output && !fs::exists(output) && fs::exists(report) &&
      result_differences(output, header).empty()) {
    fs::remove(report);
  }
}

// Makes sure that the journal is this job's.
void require_same_job(const fs::path& folder, const SpoolHeader& was, const SpoolHeader& is,
                      bool deep) {
  if (deep && was.fingerprint.every_byte.empty()) {
    throw UserError(
        "--deep: {} was begun without it, so there is nothing to compare every byte with",
        folder.string());
  }
  std::vector<std::string> found = differences(was.fingerprint, is.fingerprint);
  if (found.empty()) {
    if (const std::string part = first_difference(was, is); !part.empty()) {
      found.push_back(part);
    }
  }
  if (!found.empty()) {
    throw UserError(
        "--resume: {} was begun with another model, other prompts or other settings: {}",
        folder.string(), fmt::join(found, "; "));
  }
}

// What earlier runs left to do, and for the log what they did.
void take_up(Journal& journal, const RunConfig& config, const StopRequest& stop) {
  SpoolIndex index(journal.folder, sort_memory_bytes, [&] { stop.throw_if_made(); });
  SpoolHeader& header = journal.header;
  if (index.header()) {
    require_same_job(journal.folder, *index.header(), header, config.journal.deep);
    header.fingerprint = index.header()->fingerprint;  // with every byte, when it was begun --deep
  }
  header.run = next_spool_run(journal.folder);
  journal.work = unanswered_ranges(index, header.prompt_begin, header.prompt_end);
  log_info("resuming: {} prompts are answered by {} earlier run{}", with_commas(index.results()),
           header.run, header.run == 1 ? "" : "s");
  if (index.damage().any()) {
    log_warning("{} is damaged: {}; what they held is answered again", journal.folder.string(),
                describe(index.damage()));
  }
}

// The result takes the place of what has its name: not of what the job reads.
void refuse_input_as_output(const RunConfig& config) {
  const auto is_output = [&](const std::string& input) {
    std::error_code error;
    return !input.empty() && fs::equivalent(config.output.output, input, error);
  };
  if (is_output(config.input.prompts)) {
    throw UserError("--output: '{}' is the file of --prompts", config.output.output);
  }
  if (is_output(config.input.chat_template)) {
    throw UserError("--output: '{}' is the file of --chat-template", config.output.output);
  }
}

// The result is there: what is left of the journal does no harm.
void remove_journal(const fs::path& folder) {
  try {
    empty_journal(folder);
  } catch (const UserError& error) {
    log_warning("{}", error.what());
  }
}

void resume(Journal& journal, const RunConfig& config, const StopRequest& stop) {
  if (result_is_there(config, journal.header) && !fs::exists(journal.folder)) {
    journal.state = Journal::State::done;
    return;
  }
  check_output_folder(config.output.output);
  journal.lock = JournalLock::take(journal.folder, writers_patience_seconds);
  // Once more: whoever held the lock may have finished the job.
  if (result_is_there(config, journal.header)) {
    remove_journal(journal.folder);
    journal.state = Journal::State::done;
    return;
  }
  if (is_without_answers(journal.folder)) {
    check_output(config.output.output, config.output.overwrite);
    empty_journal(journal.folder);
    return;
  }
  take_up(journal, config, stop);
  remove_own_report(config, journal.header);
  check_output(config.output.output, config.output.overwrite);
  const bool empty = journal.header.prompt_begin == journal.header.prompt_end;
  if (journal.work.empty() && !empty) {
    journal.state = Journal::State::answered;
  }
}

// Nothing is there that the job would destroy.
void require_nothing_there(const Journal& journal, const RunConfig& config) {
  check_output(config.output.output, config.output.overwrite);
  if (!config.output.overwrite && !is_without_answers(journal.folder)) {
    throw UserError(
        "--output: '{}' is left of a job that did not end, or still runs; --resume goes on with "
        "it, --overwrite discards it",
        journal.folder.string());
  }
}

void begin(Journal& journal, const RunConfig& config) {
  require_nothing_there(journal, config);
  journal.lock = JournalLock::take(journal.folder, writers_patience_seconds);
  require_nothing_there(journal, config);  // another job may have held the lock until now
  empty_journal(journal.folder);
}

// Rank 0's decision to all ranks.
void broadcast(const Comm& world, Journal& journal) {
  journal.state = static_cast<Journal::State>(
      world.all_reduce_max(world.rank() == 0 ? static_cast<std::int64_t>(journal.state) : 0));
  journal.work_bytes = world.all_reduce_max(journal.work_bytes);
  Bytes frame;
  if (world.rank() == 0) {
    append_frame(frame, journal.header);
  }
  world.broadcast_bytes(frame, 0);
  journal.header = decode_spool_header(std::span(frame).subspan(frame_header_bytes));
}

}  // namespace

Journal open_journal(const Comm& world, const RunConfig& config, const Prompts& prompts,
                     const Fingerprint& fingerprint,
                     const std::vector<std::pair<std::string, std::string>>& settings,
                     const StopRequest& stop) {
  Journal journal;
  journal.folder = spool_folder(config.output.output);
  agree(world, [&] {
    if (world.rank() != 0) {
      return;
    }
    check_output_name(config.output.output);
    refuse_input_as_output(config);
    journal.header = {.fingerprint = fingerprint,
                      .prompt_begin = prompts.part.begin,
                      .prompt_end = prompts.part.end,
                      .prompt_file_bytes = prompts.file_bytes,
                      .prompt_file = fs::absolute(prompts.file).string(),
                      .settings = settings};
    journal.work = {prompts.part};
    if (config.journal.resume) {
      resume(journal, config, stop);
    } else {
      begin(journal, config);
    }
    for (const ByteRange& range : journal.work) {
      journal.work_bytes += range.bytes();
    }
  });
  broadcast(world, journal);
  return journal;
}

namespace {

void write_results(const Journal& journal, const RunConfig& config, Report report,
                   const StopRequest& stop) {
  const SpoolHeader& header = journal.header;
  const auto results = open_results({.output = config.output.output,
                                     .overwrite = config.output.overwrite,
                                     .prompt_token_ids = config.output.return_prompt_token_ids,
                                     .mode = config.output.mode});
  RunTally runs;
  report.job = job_report(header);
  report.job.first_index = count_lines(config.input.prompts, {0, header.prompt_begin});
  const MergeResult merged =
      merge_spool({.folder = journal.folder, .first_index = report.job.first_index},
                  [&](std::int64_t index, std::int32_t run, FinishedRequest&& request) {
                    stop.throw_if_overdue();
                    runs.add(run, request);
                    results->add(index, run, request);
                  });
  if (merged.doubles > 0) {
    log_warning("{} prompts were answered twice; the first answer counts",
                with_commas(merged.doubles));
  }
  report.job.runs = runs.rows();
  if (header.run > 0) {
    report.summary = runs.total(report.summary, header.run);
  }
  results->finish(report);
}

}  // namespace

void finish_journal(const Journal& journal, const RunConfig& config, const Report& report,
                    const StopRequest& stop) {
  try {
    write_results(journal, config, report, stop);
  } catch (const UserError& error) {
    // No room, or a file system that went away.
    throw UserError("{}; the answers are kept in {}: mend that and run again with --resume",
                    error.what(), journal.folder.string());
  }
  remove_journal(journal.folder);
}

}  // namespace millrace
