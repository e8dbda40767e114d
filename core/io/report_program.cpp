#include "core/io/report_program.hpp"

#include <cstdio>
#include <filesystem>
#include <vector>

#include "core/config/command_line.hpp"
#include "core/io/journal_status.hpp"
#include "core/io/merge_results.hpp"
#include "core/io/partial_file.hpp"
#include "core/io/posix_file.hpp"
#include "core/io/recover.hpp"
#include "core/io/report_html.hpp"
#include "core/io/result_reader.hpp"
#include "core/io/results.hpp"
#include "core/io/statistics.hpp"
#include "core/version.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

constexpr std::string_view usage =
    "Prints the summary of a result file of millrace; FILE is *.h5, or *.jsonl with its report "
    "beside it.\n\n"
    "  millrace-report FILE [flags]\n"
    "  millrace-report --journal OUTPUT\n"
    "  millrace-report --recover OUTPUT [--prompts FILE] [--overwrite]\n"
    "  millrace-report --merge OUT IN IN... [--overwrite]\n";

struct ReportConfig {
  std::string to_jsonl;
  std::string html;
  std::string journal;
  std::string answer_bytes;
  std::string recover;
  std::string prompts;
  std::vector<std::string> merge;  // the output, then the inputs
  bool overwrite = false;
};

std::vector<Flag> report_flags(ReportConfig& config) {
  using Kind = Flag::Kind;
  const std::string group = "Output";
  return {
      {group, "to-jsonl", "", Kind::value, "OUT", "",
       "Also write the results as JSON Lines, the same bytes as a run with --output OUT would.",
       [&config](const FlagValue& value) { config.to_jsonl = value.text(); }},
      {group, "html", "", Kind::value, "OUT", "",
       "Also write one self-contained page with plots and tables.",
       [&config](const FlagValue& value) { config.html = value.text(); }},
      {group, "overwrite", "", Kind::toggle, "", "", "Replace files that exist.",
       [&config](const FlagValue& value) { config.overwrite = value.boolean(); }},
      {"Jobs", "journal", "", Kind::value, "OUTPUT", "",
       "Say how much a job has answered that has no result yet, whether it still runs, and what to "
       "do next.",
       [&config](const FlagValue& value) { config.journal = value.text(); }},
      {"Jobs", "answer-bytes", "", Kind::value, "OUTPUT", "",
       "Print the size of the answers in OUTPUT's journal, a number that grows with each answer "
       "and with nothing else; for scripts. Takes no time, however large the journal is.",
       [&config](const FlagValue& value) { config.answer_bytes = value.text(); }},
      {"Jobs", "recover", "", Kind::value, "OUTPUT", "",
       "Write what a job has answered that did not come to its end, as OUTPUT's name with "
       ".recovered before its ending. The journal stays: the job can still be resumed.",
       [&config](const FlagValue& value) { config.recover = value.text(); }},
      {"Jobs", "prompts", "", Kind::value, "FILE", "",
       "With --recover: the job's prompts, if they are not where they were.",
       [&config](const FlagValue& value) { config.prompts = value.text(); }},
      {"Jobs", "merge", "", Kind::repeated, "OUT IN...", "",
       "Join the results IN of all --shard parts of a prompt file into OUT.",
       [&config](const FlagValue& value) { config.merge.push_back(value.text()); }},
  };
}

// One question at a time: what a flag asks for is not passed over in silence.
void check_question(const ReportConfig& config, bool has_file) {
  std::vector<std::string_view> asked;
  const auto add = [&asked](bool is_asked, std::string_view what) {
    if (is_asked) asked.push_back(what);
  };
  add(has_file, "FILE");
  add(!config.journal.empty(), "--journal");
  add(!config.answer_bytes.empty(), "--answer-bytes");
  add(!config.recover.empty(), "--recover");
  add(!config.merge.empty(), "--merge");
  if (asked.empty()) {
    throw UserError("the first argument names the result file; see --help");
  }
  if (asked.size() > 1) {
    throw UserError("{} and {} are two questions: ask one at a time", asked[0], asked[1]);
  }
  if (!has_file && !(config.html.empty() && config.to_jsonl.empty())) {
    throw UserError("{} is of a result FILE, and {} has none",
                    config.html.empty() ? "--to-jsonl" : "--html", asked[0]);
  }
  if (config.recover.empty() && !config.prompts.empty()) {
    throw UserError("--prompts goes with --recover, not with {}", asked[0]);
  }
}

// Before anything is read or printed.
void check_outputs(const ReportConfig& config) {
  if (!config.html.empty() && !config.html.ends_with(".html")) {
    throw UserError("{}: a page is named *.html", config.html);
  }
  if (!config.to_jsonl.empty() && result_format(config.to_jsonl) != ResultFormat::json_lines) {
    throw UserError("{}: JSON Lines files are named *.jsonl", config.to_jsonl);
  }
  for (const std::string& path : {config.html, config.to_jsonl}) {
    if (!path.empty() && !config.overwrite) refuse_existing(path);
  }
}

void write_page(const std::string& path, bool overwrite, const std::string& html) {
  PartialFile partial(path, overwrite);
  PosixFile file = PosixFile::create(partial.path());
  file.write(std::as_bytes(std::span(html)));
  file.close();
  partial.complete();
}

int recover(const ReportConfig& config) {
  const Recovered made = recover_results({config.recover, config.prompts, config.overwrite});
  if (made.damage.any()) {
    fmt::print("the journal is damaged: {}\n", describe(made.damage));
  }
  fmt::print("recovered     {} answers in {}; {} prompts are not answered\n",
             with_commas(made.answered), made.file.string(), with_commas(made.unanswered));
  return 0;
}

int merge(const ReportConfig& config) {
  if (config.merge.size() < 2) {
    throw UserError("--merge {}: the results to merge are missing; see --help", config.merge[0]);
  }
  const std::int64_t lines = merge_results(
      {config.merge[0], {config.merge.begin() + 1, config.merge.end()}, config.overwrite});
  const std::size_t results = config.merge.size() - 1;
  fmt::print("merged        {} lines of {} result{} in {}\n", with_commas(lines), results,
             results == 1 ? "" : "s", config.merge[0]);
  return 0;
}

// "--merge OUT A B" -> "--merge OUT --merge A --merge B", as flags take one value each.
std::vector<std::string> spell_merge_out(std::span<const std::string> arguments) {
  std::vector<std::string> spelled;
  if (!arguments.empty() && arguments.back() == "--merge") {
    return {"--merge"};  // which needs a value
  }
  bool merging = false;
  for (const std::string& argument : arguments) {
    merging = argument == "--merge" || (merging && !argument.starts_with('-'));
    if (merging && argument != "--merge") {
      spelled.insert(spelled.end(), {"--merge", argument});
    } else if (!merging) {
      spelled.push_back(argument);
    }
  }
  return spelled;
}

}  // namespace

int run_report(std::span<const std::string> given) {
  const std::vector<std::string> spelled = spell_merge_out(given);
  const std::span<const std::string> arguments(spelled);
  ReportConfig config;
  const std::vector<Flag> flags = report_flags(config);
  const bool has_file = !arguments.empty() && !arguments[0].starts_with('-');
  const Settings settings = read_settings(flags, has_file ? arguments.subspan(1) : arguments, {});
  if (settings.wants_help || settings.wants_version) {
    fmt::print("{}", settings.wants_help ? help_text(flags, usage, false)
                                         : fmt::format("millrace-report {}\n", version()));
    return 0;
  }
  apply_settings(flags, settings.values);
  check_question(config, has_file);
  if (!config.journal.empty()) {
    fmt::print("{}", status_text(config.journal, journal_status(config.journal)));
    return 0;
  }
  if (!config.answer_bytes.empty()) {
    fmt::print("{}\n", answer_bytes(config.answer_bytes));
    return 0;
  }
  if (!config.recover.empty()) {
    return recover(config);
  }
  if (!config.merge.empty()) {
    return merge(config);
  }
  check_outputs(config);
  const std::filesystem::path file = report_path(arguments[0]);
  const ResultReader reader(file);
  const Report report = reader.report();
  const Statistics statistics = gather_statistics(reader, arguments[0]);
  fmt::print("{}", summary_text(report, statistics));
  if (!config.html.empty()) {
    write_page(config.html, config.overwrite, report_html(report, statistics));
    fmt::print("page          {}\n", config.html);
  }
  if (!config.to_jsonl.empty()) {
    const std::int64_t lines = convert_to_json_lines({file, config.to_jsonl, config.overwrite});
    fmt::print("JSON Lines    {} lines in {}\n", with_commas(lines), config.to_jsonl);
  }
  return 0;
}

}  // namespace millrace
