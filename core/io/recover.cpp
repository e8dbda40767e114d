#include "core/io/recover.hpp"

#include <algorithm>

#include "core/batch/request.hpp"
#include "core/io/fingerprint.hpp"
#include "core/io/line_count.hpp"
#include "core/io/line_scanner.hpp"
#include "core/io/merge.hpp"
#include "core/io/report.hpp"
#include "core/io/results.hpp"
#include "core/io/run_tally.hpp"
#include "core/io/spool_index.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t sort_memory_bytes = 8 << 20;

SpoolHeader header_of(const fs::path& folder) {
  const SpoolIndex index(folder, sort_memory_bytes);
  if (!index.header()) {
    throw UserError("{}: there is no journal of a job in it", folder.string());
  }
  return *index.header();
}

// The prompts that the job read, or a UserError.
fs::path prompts_of(const RecoverOptions& options, const SpoolHeader& header) {
  const fs::path path = options.prompts.empty() ? fs::path(header.prompt_file) : options.prompts;
  if (!fs::exists(path)) {
    throw UserError("{}: the job's prompts are not there; --prompts says where they are now",
                    path.string());
  }
  const auto& parts = header.fingerprint.parts;
  const auto was = std::ranges::find(parts, "--prompts", &FingerprintPart::name);
  if (const std::string is = sample_file(path); was != parts.end() && was->value != is) {
    throw UserError("{}: not the job's prompts: they were {}, these are {}", path.string(),
                    was->value, is);
  }
  return path;
}

bool wants_prompt_token_ids(const SpoolHeader& header) {
  return std::ranges::any_of(header.settings, [](const auto& setting) {
    return setting.first == "return-prompt-token-ids" && setting.second == "true";
  });
}

}  // namespace

fs::path recovered_path(const fs::path& output) {
  fs::path path = output;
  path.replace_extension(".recovered" + output.extension().string());
  return path;
}

Recovered recover_results(const RecoverOptions& options) {
  const fs::path folder = spool_folder(options.output);
  const SpoolHeader header = header_of(folder);
  const fs::path prompts = prompts_of(options, header);
  Recovered recovered{.file = recovered_path(options.output)};
  const auto results = open_results({.output = recovered.file,
                                     .overwrite = options.overwrite,
                                     .prompt_token_ids = wants_prompt_token_ids(header),
                                     .mode = recorded_mode(header.settings)});
  Report report;
  report.config = header.settings;
  report.job = job_report(header);
  report.job.first_index = count_lines(prompts, {0, header.prompt_begin});

  RunTally runs;
  constexpr std::int64_t longest_line = 1;  // only where lines begin is wanted
  LineScanner scanner(prompts, longest_line);
  MergeOptions merge{.folder = folder, .first_index = report.job.first_index};
  merge.on_gap = [&](ByteRange gap, std::int64_t index) {
    scanner.start(gap.begin, gap.end);
    std::int64_t lines = 0;
    while (const auto line = scanner.next()) {
      FinishedRequest missing;
      missing.key.offset = line->offset;
      missing.error = "not answered when the job ended";
      results->add(index + lines++, header.run, missing);
    }
    return lines;
  };
  const MergeResult merged =
      merge_spool(merge, [&](std::int64_t index, std::int32_t run, FinishedRequest&& request) {
        runs.add(run, request);
        results->add(index, run, request);
      });
  report.job.runs = runs.rows();
  report.job.unanswered = merged.unanswered;
  report.summary = runs.total({}, -1);
  results->finish(report);
  recovered.answered = merged.lines;
  recovered.unanswered = merged.unanswered;
  recovered.damage = merged.damage;
  return recovered;
}

}  // namespace millrace
