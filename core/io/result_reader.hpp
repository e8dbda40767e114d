// Reads an HDF5 result file (results.hpp) front to back in bounded memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "core/batch/request.hpp"
#include "core/io/report.hpp"

namespace millrace {

// The columns of one row of /requests that every result file has, also the report beside JSON
// Lines.
struct RequestRow {
  std::int64_t index = 0;
  std::string id;
  std::string error;
  std::int64_t offset = 0;
  std::int32_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;  // of all completions
  std::int32_t outputs = 0;        // completions
  double arrived_seconds = 0;
  double first_token_seconds = 0;
  double finished_seconds = 0;
  std::int32_t run = 0;  // of the job's attempts: which answered
};

// One row of /outputs without its text.
struct OutputRow {
  std::int64_t request = 0;
  std::int32_t completion = 0;
  std::int32_t tokens = 0;
  FinishReason finish_reason = FinishReason::length;
};

using ResultVisitor =
    std::function<void(std::int64_t index, std::int32_t run, const FinishedRequest&)>;

class ResultReader {
 public:
  // Throws UserError when the file is not a millrace result, or of a newer schema.
  explicit ResultReader(const std::filesystem::path& path);
  ~ResultReader();
  ResultReader(ResultReader&&) noexcept;

  Report report() const;
  std::string millrace_version() const;
  // False for the report beside JSON Lines: texts and tokens are in the .jsonl file.
  bool has_texts() const;
  bool has_prompt_token_ids() const;

  // Each goes through all rows once, in order. Throws UserError for a damaged file.
  void for_each_request(const std::function<void(const RequestRow&)>& visit) const;
  void for_each_output(const std::function<void(const OutputRow&)>& visit) const;
  // Whole results; needs has_texts(). `index` is the number of the line in the prompt file. Without
  // has_prompt_token_ids() the prompt's ids are not known, only their number: they are handed out
  // as zeros.
  void for_each_result(const ResultVisitor& visit) const;
  // The same of any file, as far as a report knows it: no texts, stop reasons and logprobs, and
  // zeros for the output's token ids too.
  void for_each_shape(const ResultVisitor& visit) const;

 private:
  void for_each(const ResultVisitor& visit, bool with_texts) const;

  class Impl;
  std::unique_ptr<Impl> impl_;
};

struct ConvertOptions {
  std::filesystem::path from;  // an HDF5 result with texts
  std::filesystem::path to;    // .jsonl
  bool overwrite = false;
};

// Writes the JSON Lines file that the run would have written, byte by byte. Answers its lines.
std::int64_t convert_to_json_lines(const ConvertOptions& options);

}  // namespace millrace
