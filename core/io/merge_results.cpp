#include "core/io/merge_results.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <utility>

#include "core/batch/request.hpp"
#include "core/io/hdf5_results.hpp"
#include "core/io/partial_file.hpp"
#include "core/io/posix_file.hpp"
#include "core/io/report.hpp"
#include "core/io/result_reader.hpp"
#include "core/io/results.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

struct Shard {
  fs::path path;
  Report report;

  const JobReport& job() const { return report.job; }
};

// In the order of the prompt file.
std::vector<Shard> read_shards(const std::vector<fs::path>& inputs) {
  std::vector<Shard> shards;
  for (const fs::path& path : inputs) {
    if (result_format(path) != result_format(inputs.front())) {
      throw UserError("{} and {} are not of one kind: merge HDF5 results or JSON Lines results",
                      inputs.front().string(), path.string());
    }
    shards.push_back({path, ResultReader(report_path(path)).report()});
    const JobReport& job = shards.back().job();
    if (job.fingerprint.parts.empty()) {
      throw UserError("{} does not say which job it is of", path.string());
    }
    if (job.unanswered > 0) {
      throw UserError("{} is no whole result: {} of its prompts are not answered", path.string(),
                      with_commas(job.unanswered));
    }
  }
  std::ranges::stable_sort(shards, {}, [](const Shard& shard) {
    return std::pair(shard.job().prompt_begin, shard.job().prompt_end);
  });
  return shards;
}

void require_one_job(const std::vector<Shard>& shards) {
  const Shard& first = shards.front();
  for (const Shard& shard : shards) {
    const auto found = differences(first.job().fingerprint, shard.job().fingerprint);
    if (!found.empty()) {
      throw UserError("{} is not of the same job as {}: {}", shard.path.string(),
                      first.path.string(), fmt::join(found, "; "));
    }
  }
}

void require_tiling(const std::vector<Shard>& shards) {
  std::vector<std::string> problems;
  const std::int64_t file_bytes = shards.front().job().prompt_file_bytes;
  std::int64_t at = 0;
  std::string before;  // who answers the bytes up to `at`
  const auto expect = [&](std::int64_t begin, const std::string& who) {
    if (begin > at) {
      problems.push_back(fmt::format("bytes {} to {} are in none of them", at, begin));
    } else if (begin < at) {
      problems.push_back(
          fmt::format("bytes {} to {} are in both {} and {}", begin, at, before, who));
    }
  };
  for (const Shard& shard : shards) {
    const JobReport& job = shard.job();
    if (job.prompt_begin == job.prompt_end) {
      continue;  // more shards than lines
    }
    expect(job.prompt_begin, shard.path.string());
    if (job.prompt_end > at) {
      at = job.prompt_end;
      before = shard.path.string();
    }
  }
  if (at < file_bytes) {
    expect(file_bytes, "");
  }
  if (!problems.empty()) {
    throw UserError("the results do not make up the whole prompt file of {} bytes: {}", file_bytes,
                    fmt::join(problems, "; "));
  }
}

Report merged_report(const std::vector<Shard>& shards, const fs::path& output) {
  Report report;
  report.config = shards.front().report.config;
  for (auto& [flag, value] : report.config) {
    value = flag == "output" ? output.string() : flag == "shard" ? "0/1" : value;
  }
  report.job = shards.front().job();
  report.job.prompt_begin = 0;
  report.job.prompt_end = report.job.prompt_file_bytes;
  report.job.first_index = 0;
  report.job.runs.clear();
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const Summary& summary = shards[i].report.summary;
    report.summary.load_seconds += summary.load_seconds;
    report.summary.run_seconds += summary.run_seconds;
    report.summary.prompt_tokens += summary.prompt_tokens;
    report.summary.output_tokens += summary.output_tokens;
    report.summary.requests += summary.requests;
    report.summary.errors += summary.errors;
    for (RunRow row : shards[i].job().runs) {
      row.shard = static_cast<std::int32_t>(i);
      report.job.runs.push_back(row);
    }
  }
  return report;
}

// Hands the rows of all shards on, numbered through.
class RowCounter {
 public:
  explicit RowCounter(ResultWriter& writer) : writer_(writer) {}

  // With `texts`, or only the numbers of tokens (the report beside JSON Lines).
  void add(const Shard& shard, bool texts) {
    const ResultReader reader(report_path(shard.path));
    const auto add = [&](std::int64_t index, std::int32_t run, const FinishedRequest& result) {
      if (index != rows_) {
        throw UserError("{} is damaged: its line {} should be line {} of the prompts",
                        shard.path.string(), index, rows_);
      }
      writer_.add(rows_++, run, result);
    };
    texts ? reader.for_each_result(add) : reader.for_each_shape(add);
  }

  std::int64_t rows() const { return rows_; }

 private:
  ResultWriter& writer_;
  std::int64_t rows_ = 0;
};

// Appends the file's bytes; answers the number of its lines.
std::int64_t append_file(PosixFile& to, const fs::path& from) {
  const PosixFile file = PosixFile::open(from);
  std::vector<std::byte> block(1 << 20);
  std::int64_t lines = 0;
  for (std::int64_t at = 0;;) {
    const std::size_t count = file.read_at(at, block);
    const auto bytes = std::span(block).first(count);
    lines += std::ranges::count(bytes, std::byte{'\n'});
    to.write(bytes);
    at += static_cast<std::int64_t>(count);
    if (count < block.size()) {
      return lines;
    }
  }
}

// The lines carry their number in the whole prompt file already: they are copied as they are.
std::int64_t merge_json_lines(const std::vector<Shard>& shards, const MergeResultsOptions& options,
                              const Report& report) {
  const int mode = recorded_mode(report.config);
  PartialFile partial(options.output, options.overwrite, mode);
  PosixFile file = PosixFile::create(partial.path());
  Hdf5ResultWriter report_writer(report_path(options.output), options.overwrite,
                                 Hdf5Contents::report, mode);
  RowCounter rows(report_writer);
  std::int64_t lines = 0;
  for (const Shard& shard : shards) {
    lines += append_file(file, shard.path);
    rows.add(shard, false);
    if (lines != rows.rows()) {
      throw UserError("{} does not have the {} lines that its report speaks of",
                      shard.path.string(), with_commas(shard.report.summary.requests));
    }
  }
  file.close();
  report_writer.finish(report);
  partial.complete();
  return lines;
}

std::int64_t merge_hdf5(const std::vector<Shard>& shards, const MergeResultsOptions& options,
                        const Report& report) {
  const bool prompts = ResultReader(shards.front().path).has_prompt_token_ids();
  for (const Shard& shard : shards) {
    if (ResultReader(shard.path).has_prompt_token_ids() != prompts) {
      throw UserError("{} and {}: only one of them has the prompts' token ids",
                      shards.front().path.string(), shard.path.string());
    }
  }
  const auto writer =
      open_results({options.output, options.overwrite, prompts, recorded_mode(report.config)});
  RowCounter rows(*writer);
  for (const Shard& shard : shards) {
    rows.add(shard, true);
  }
  writer->finish(report);
  return rows.rows();
}

}  // namespace

std::int64_t merge_results(const MergeResultsOptions& options) {
  const std::vector<Shard> shards = read_shards(options.inputs);
  require_one_job(shards);
  require_tiling(shards);
  check_output(options.output, options.overwrite);
  const Report report = merged_report(shards, options.output);
  if (result_format(options.inputs.front()) == ResultFormat::hdf5) {
    return merge_hdf5(shards, options, report);
  }
  if (result_format(options.output) != ResultFormat::json_lines) {
    throw UserError("{}: JSON Lines results merge into a *.jsonl file", options.output.string());
  }
  return merge_json_lines(shards, options, report);
}

}  // namespace millrace
