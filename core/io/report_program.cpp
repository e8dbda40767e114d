#include "core/io/report_program.hpp"

#include <cstdio>
#include <filesystem>

#include "core/config/command_line.hpp"
#include "core/io/partial_file.hpp"
#include "core/io/posix_file.hpp"
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
    "beside "
    "it.\n\n"
    "  millrace-report FILE [flags]\n";

struct ReportConfig {
  std::string to_jsonl;
  std::string html;
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
  };
}

void write_page(const std::string& path, bool overwrite, const std::string& html) {
  if (!overwrite) {
    refuse_existing(path);
  }
  PartialFile partial(path, overwrite);
  PosixFile file = PosixFile::create(partial.path());
  file.write(std::as_bytes(std::span(html)));
  file.close();
  partial.complete();
}

}  // namespace

int run_report(std::span<const std::string> arguments) {
  ReportConfig config;
  const std::vector<Flag> flags = report_flags(config);
  const bool has_file = !arguments.empty() && !arguments[0].starts_with('-');
  const Settings settings = read_settings(flags, has_file ? arguments.subspan(1) : arguments, {});
  if (settings.wants_help || settings.wants_version) {
    fmt::print("{}", settings.wants_help ? help_text(flags, usage)
                                         : fmt::format("millrace-report {}\n", version()));
    return 0;
  }
  if (!has_file) {
    throw UserError("the first argument names the result file; see --help");
  }
  apply_settings(flags, settings.values);

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
