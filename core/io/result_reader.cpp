#include "core/io/result_reader.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/io/hdf5_columns.hpp"
#include "core/io/hdf5_report.hpp"
#include "core/io/json_lines.hpp"
#include "core/io/partial_file.hpp"
#include "core/io/posix_file.hpp"
#include "core/io/results.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using hdf5::ColumnReader;
using hdf5::Object;
using hdf5::RaggedReader;

// More than the longest line and the longest model have.
constexpr std::int32_t most_tokens = 1 << 27;
// On a run's clock; beyond what any run lasts, and small enough to compute with.
constexpr double most_seconds = 1e12;

class RequestRows {
 public:
  explicit RequestRows(const Object& file)
      : group_(hdf5::open_group(file, "requests")),
        id_(group_, "id"),
        error_(group_, "error"),
        offset_(group_, "offset"),
        prompt_tokens_(group_, "prompt_tokens"),
        output_tokens_(group_, "output_tokens"),
        outputs_(group_, "outputs"),
        arrived_(group_, "arrived_seconds"),
        first_token_(group_, "first_token_seconds"),
        finished_(group_, "finished_seconds") {
    if (hdf5::exists(group_, "run")) {
      run_.emplace(group_, "run");
    }
  }

  bool next(RequestRow& row) {
    if (offset_.left() == 0) {
      return false;
    }
    row.index = index_++;
    row.id = id_.next_text();
    row.error = error_.next_text();
    row.offset = offset_.next();
    row.prompt_tokens =
        hdf5::in_range(group_, "requests/prompt_tokens", prompt_tokens_.next(), 0, most_tokens);
    row.output_tokens = output_tokens_.next();
    row.outputs = outputs_.next();
    row.arrived_seconds = seconds("requests/arrived_seconds", arrived_);
    row.first_token_seconds = seconds("requests/first_token_seconds", first_token_);
    row.finished_seconds = seconds("requests/finished_seconds", finished_);
    row.run = run_ ? run_->next() : 0;
    return true;
  }

 private:
  double seconds(std::string_view column, ColumnReader<double>& from) const {
    return hdf5::in_range(group_, column, from.next(), -most_seconds, most_seconds);
  }

  Object group_;
  RaggedReader<std::uint8_t> id_;
  RaggedReader<std::uint8_t> error_;
  ColumnReader<std::int64_t> offset_;
  ColumnReader<std::int32_t> prompt_tokens_;
  ColumnReader<std::int64_t> output_tokens_;
  ColumnReader<std::int32_t> outputs_;
  ColumnReader<double> arrived_;
  ColumnReader<double> first_token_;
  ColumnReader<double> finished_;
  std::optional<ColumnReader<std::int32_t>> run_;  // files of earlier versions have none
  std::int64_t index_ = 0;
};

class OutputRows {
 public:
  // `group` must outlive this.
  explicit OutputRows(const Object& group)
      : group_(group),
        request_(group, "request"),
        completion_(group, "completion"),
        tokens_(group, "tokens"),
        finish_reason_(group, "finish_reason", hdf5::Type::finish_reason) {}

  bool next(OutputRow& row) {
    if (request_.left() == 0) {
      return false;
    }
    row.request = request_.next();
    row.completion = completion_.next();
    row.tokens = hdf5::in_range(group_, "outputs/tokens", tokens_.next(), 0, most_tokens);
    constexpr int most = static_cast<int>(FinishReason::error);
    row.finish_reason = static_cast<FinishReason>(
        hdf5::in_range<int>(group_, "outputs/finish_reason", finish_reason_.next(), 0, most));
    return true;
  }

 private:
  const Object& group_;
  ColumnReader<std::int64_t> request_;
  ColumnReader<std::int32_t> completion_;
  ColumnReader<std::int32_t> tokens_;
  ColumnReader<std::uint8_t> finish_reason_;
};

class LogprobRows {
 public:
  explicit LogprobRows(const Object& outputs)
      : group_(hdf5::open_group(outputs, "logprobs")),
        offsets_(group_, "offsets"),
        token_id_(group_, "token_id"),
        logprob_(group_, "logprob"),
        rank_(group_, "rank"),
        top_offsets_(group_, "top_offsets"),
        top_token_id_(group_, "top_token_id"),
        top_logprob_(group_, "top_logprob") {}

  std::vector<TokenLogprobs> next() {
    std::vector<TokenLogprobs> positions;
    for (std::uint64_t left = offsets_.next(); left > 0; --left) {
      TokenLogprobs position;
      position.token = token_id_.next();
      position.logprob = logprob_.next();
      position.rank = rank_.next();
      for (std::uint64_t top = top_offsets_.next(); top > 0; --top) {
        const std::int32_t token = top_token_id_.next();
        position.top.emplace_back(token, top_logprob_.next());
      }
      positions.push_back(std::move(position));
    }
    return positions;
  }

 private:
  Object group_;
  hdf5::OffsetsReader offsets_;
  ColumnReader<std::int32_t> token_id_;
  ColumnReader<float> logprob_;
  ColumnReader<std::int32_t> rank_;
  hdf5::OffsetsReader top_offsets_;
  ColumnReader<std::int32_t> top_token_id_;
  ColumnReader<float> top_logprob_;
};

// What a report leaves out of a completion.
class OutputTexts {
 public:
  explicit OutputTexts(const Object& outputs)
      : texts_(outputs, "text"),
        token_ids_(outputs, "token_ids"),
        stop_reasons_(outputs, "stop_reason"),
        logprobs_(outputs) {}

  void next(Completion& completion) {
    completion.text = texts_.next_text();
    completion.token_ids = token_ids_.next();
    completion.stop_reason = stop_reasons_.next_text();
    completion.logprobs = logprobs_.next();
  }

 private:
  RaggedReader<std::uint8_t> texts_;
  RaggedReader<std::int32_t> token_ids_;
  RaggedReader<std::uint8_t> stop_reasons_;
  LogprobRows logprobs_;
};

}  // namespace

class ResultReader::Impl {
 public:
  explicit Impl(const std::filesystem::path& path) : path_(path), file_(hdf5::open_file(path)) {
    if (!hdf5::has_attribute(file_, "schema_version") ||
        hdf5::read_text_attribute(file_, "format") != result_format_name) {
      throw UserError("{} is not a result of millrace", path.string());
    }
    const std::int64_t version = hdf5::read_integer_attribute(file_, "schema_version");
    if (version > result_schema_version) {
      throw UserError(
          "{} was written by a newer millrace (schema version {}, this one reads up to {})",
          path.string(), version, result_schema_version);
    }
    has_texts_ = hdf5::exists(hdf5::open_group(file_, "outputs"), "text");
    has_prompts_ = hdf5::exists(hdf5::open_group(file_, "requests"), "prompt_token_ids");
  }

  const std::filesystem::path path_;
  Object file_;
  bool has_texts_ = false;
  bool has_prompts_ = false;
};

ResultReader::ResultReader(const std::filesystem::path& path)
    : impl_(std::make_unique<Impl>(path)) {}
ResultReader::~ResultReader() = default;
ResultReader::ResultReader(ResultReader&&) noexcept = default;

Report ResultReader::report() const { return read_report(impl_->file_); }
std::string ResultReader::millrace_version() const {
  return hdf5::read_text_attribute(impl_->file_, "millrace_version");
}
bool ResultReader::has_texts() const { return impl_->has_texts_; }
bool ResultReader::has_prompt_token_ids() const { return impl_->has_prompts_; }

void ResultReader::for_each_request(const std::function<void(const RequestRow&)>& visit) const {
  RequestRows rows(impl_->file_);
  for (RequestRow row; rows.next(row);) {
    visit(row);
  }
}

void ResultReader::for_each_output(const std::function<void(const OutputRow&)>& visit) const {
  const Object group = hdf5::open_group(impl_->file_, "outputs");
  OutputRows rows(group);
  for (OutputRow row; rows.next(row);) {
    visit(row);
  }
}

void ResultReader::for_each_result(const ResultVisitor& visit) const {
  if (!has_texts()) {
    throw UserError("{} is the report beside a JSON Lines result: the texts are in that file",
                    impl_->path_.string());
  }
  for_each(visit, true);
}

void ResultReader::for_each_shape(const ResultVisitor& visit) const { for_each(visit, false); }

void ResultReader::for_each(const ResultVisitor& visit, bool with_texts) const {
  const std::int64_t first_index = report().job.first_index;
  RequestRows requests(impl_->file_);
  std::optional<RaggedReader<std::int32_t>> prompts;
  if (has_prompt_token_ids()) {
    prompts.emplace(hdf5::open_group(impl_->file_, "requests"), "prompt_token_ids");
  }
  const Object outputs_group = hdf5::open_group(impl_->file_, "outputs");
  OutputRows outputs(outputs_group);
  std::optional<OutputTexts> texts;
  if (with_texts) {
    texts.emplace(outputs_group);
  }
  for (RequestRow row; requests.next(row);) {
    FinishedRequest result;
    result.key.offset = row.offset;
    result.id = std::move(row.id);
    result.error = std::move(row.error);
    result.arrived_seconds = row.arrived_seconds;
    result.first_token_seconds = row.first_token_seconds;
    result.finished_seconds = row.finished_seconds;
    if (prompts) {
      result.prompt_token_ids = prompts->next();
    } else {
      result.prompt_token_ids.assign(static_cast<std::size_t>(row.prompt_tokens), 0);
    }
    for (std::int32_t i = 0; i < row.outputs; ++i) {
      OutputRow output;
      if (!outputs.next(output) || output.request != row.index) {
        throw UserError("{} is damaged: line {} should have {} outputs", impl_->path_.string(),
                        row.index, row.outputs);
      }
      Completion completion;
      completion.number = output.completion;
      completion.finish_reason = output.finish_reason;
      if (texts) {
        texts->next(completion);
      } else {
        completion.token_ids.assign(static_cast<std::size_t>(output.tokens), 0);
      }
      result.completions.push_back(std::move(completion));
    }
    visit(first_index + row.index, row.run, result);
  }
}

std::int64_t convert_to_json_lines(const ConvertOptions& options) {
  if (result_format(options.to) != ResultFormat::json_lines) {
    throw UserError("{}: JSON Lines files are named *.jsonl", options.to.string());
  }
  const ResultReader reader(options.from);
  if (!options.overwrite) {
    refuse_existing(options.to);
  }
  PartialFile partial(options.to, options.overwrite, recorded_mode(reader.report().config));
  PosixFile file = PosixFile::create(partial.path());
  std::string buffer;
  std::int64_t lines = 0;
  reader.for_each_result([&](std::int64_t index, std::int32_t, const FinishedRequest& result) {
    append_json_line(buffer, index, result, reader.has_prompt_token_ids());
    ++lines;
    if (buffer.size() >= (1U << 20)) {
      file.write(std::as_bytes(std::span(buffer)));
      buffer.clear();
    }
  });
  file.write(std::as_bytes(std::span(buffer)));
  file.close();
  partial.complete();
  return lines;
}

}  // namespace millrace
