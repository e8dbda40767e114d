// The result file: HDF5 (.h5, .hdf5) or JSON Lines (.jsonl), written in input order and bounded
// memory into OUTPUT.partial, and renamed when complete. The layout of both is documented in
// core/io/README.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace {

struct FinishedRequest;
struct Report;

// Raised when the layout of the HDF5 file changes; readers refuse newer files.
inline constexpr std::int64_t result_schema_version = 1;
// What the attribute "format" of such a file says.
inline constexpr std::string_view result_format_name = "millrace results";

enum class ResultFormat : std::uint8_t { hdf5, json_lines };

// By the file's ending: .h5 or .hdf5, or .jsonl. Throws UserError for any other.
ResultFormat result_format(const std::filesystem::path& output);

// FILE.jsonl.report.h5 beside FILE.jsonl; an HDF5 file holds its report itself.
std::filesystem::path report_path(const std::filesystem::path& output);

// Throws UserError when the names of `output` and of what is written beside it cannot be: too long,
// or through something that is no folder.
void check_output_name(const std::filesystem::path& output);
// Throws UserError when nothing can be written beside `output`: its folder is missing or not
// writable, or it is a folder itself.
void check_output_folder(const std::filesystem::path& output);
// The same, and when `output` (or the report beside it) exists and `overwrite` is false. Called at
// the start of a job, before any work.
void check_output(const std::filesystem::path& output, bool overwrite);

// --output-mode as a job's settings have it: what is made of its results later has it too. 600
// where they do not say.
int recorded_mode(const std::vector<std::pair<std::string, std::string>>& settings);

struct ResultOptions {
  std::filesystem::path output;
  bool overwrite = false;
  bool prompt_token_ids = false;  // --return-prompt-token-ids
  int mode = 0600;                // permissions of the file and of its report
};

// Writes one result file. add() and finish() throw UserError when the disk is full or
// the file cannot be written; nothing has the final name then. Destroyed without finish(), it
// removes what it wrote.
class ResultWriter {
 public:
  virtual ~ResultWriter() = default;
  // Rows of the file, in the order of the prompt file: `index` is the number of the line, counted
  // from 0, and one more with each call. `run` is the attempt of the job that answered it.
  virtual void add(std::int64_t index, std::int32_t run, const FinishedRequest& request) = 0;
  // Completes the file (with JSON Lines, also the report beside it) and gives it its final name.
  virtual void finish(const Report& report) = 0;
};

std::unique_ptr<ResultWriter> open_results(const ResultOptions& options);

}  // namespace millrace
