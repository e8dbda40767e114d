#include "core/io/results.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string>
#include <utility>

#include "core/io/hdf5_results.hpp"
#include "core/io/json_lines.hpp"
#include "core/io/partial_file.hpp"
#include "core/io/posix_file.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

class JsonLinesWriter : public ResultWriter {
 public:
  explicit JsonLinesWriter(const ResultOptions& options)
      : partial_(options.output, options.overwrite, options.mode),
        file_(PosixFile::create(partial_.path())),
        report_(report_path(options.output), options.overwrite, Hdf5Contents::report, options.mode),
        prompt_token_ids_(options.prompt_token_ids) {}

  void add(std::int64_t index, std::int32_t run, const FinishedRequest& request) override {
    append_json_line(buffer_, index, request, prompt_token_ids_);
    if (buffer_.size() >= buffer_bytes) {
      write();
    }
    report_.add(index, run, request);
  }

  void finish(const Report& report) override {
    write();
    file_.close();
    // The report first: whoever sees the result finds the report beside it.
    report_.finish(report);
    partial_.complete();
  }

 private:
  void write() {
    file_.write(std::as_bytes(std::span(buffer_)));
    buffer_.clear();
    if (buffer_.capacity() > 4 * buffer_bytes) {
      buffer_.shrink_to_fit();
    }
  }

  static constexpr std::size_t buffer_bytes = 1 << 20;
  PartialFile partial_;
  PosixFile file_;
  Hdf5ResultWriter report_;
  bool prompt_token_ids_;
  std::string buffer_;
};

}  // namespace

ResultFormat result_format(const std::filesystem::path& output) {
  const auto extension = output.extension();
  if (extension == ".h5" || extension == ".hdf5") {
    return ResultFormat::hdf5;
  }
  if (extension == ".jsonl") {
    return ResultFormat::json_lines;
  }
  throw UserError("{}: a result file is named *.h5, *.hdf5 or *.jsonl", output.string());
}

std::filesystem::path report_path(const std::filesystem::path& output) {
  return result_format(output) == ResultFormat::json_lines ? output.string() + ".report.h5"
                                                           : output.string();
}

void check_output_name(const std::filesystem::path& output) {
  const std::string longest = output.string() + ".report.h5.partial";
  struct stat status {};
  if (::lstat(longest.c_str(), &status) != 0 && errno != ENOENT) {
    throw UserError("cannot write {}: {}", output.string(), std::strerror(errno));
  }
}

void check_output_folder(const std::filesystem::path& output) {
  check_output_name(output);
  const auto folder = folder_of(output);
  if (!std::filesystem::is_directory(folder)) {
    throw UserError("cannot write {}: there is no folder {}", output.string(), folder.string());
  }
  if (std::filesystem::is_directory(output)) {
    throw UserError("cannot write {}: it is a folder", output.string());
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    throw UserError("cannot write {}: {}: {}", output.string(), folder.string(),
                    std::strerror(errno));
  }
}

void check_output(const std::filesystem::path& output, bool overwrite) {
  check_output_folder(output);
  if (!overwrite) {
    refuse_existing(output);
    refuse_existing(report_path(output));
  }
}

int recorded_mode(const std::vector<std::pair<std::string, std::string>>& settings) {
  constexpr int for_the_owner = 0600;
  const auto mode =
      std::ranges::find(settings, "output-mode", &std::pair<std::string, std::string>::first);
  if (mode == settings.end()) {
    return for_the_owner;
  }
  int value = 0;
  const std::string& text = mode->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
  const bool is_mode =
      error == std::errc() && end == text.data() + text.size() && value >= 0 && value <= 0777;
  return is_mode ? value : for_the_owner;
}

std::unique_ptr<ResultWriter> open_results(const ResultOptions& options) {
  check_output(options.output, options.overwrite);
  if (result_format(options.output) == ResultFormat::json_lines) {
    return std::make_unique<JsonLinesWriter>(options);
  }
  return std::make_unique<Hdf5ResultWriter>(
      options.output, options.overwrite,
      options.prompt_token_ids ? Hdf5Contents::results_with_prompts : Hdf5Contents::results,
      options.mode);
}

}  // namespace millrace
