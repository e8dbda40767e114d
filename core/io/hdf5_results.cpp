#include "core/io/hdf5_results.hpp"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/batch/request.hpp"
#include "core/io/hdf5_columns.hpp"
#include "core/io/hdf5_report.hpp"
#include "core/io/partial_file.hpp"
#include "core/io/report.hpp"
#include "core/version.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using hdf5::ColumnWriter;
using hdf5::Object;
using hdf5::RaggedWriter;

// /requests: one row per line of the prompt file, in its order.
struct RequestColumns {
  RequestColumns(const Object& file, bool with_prompts)
      : group(hdf5::create_group(file, "requests")),
        id(group, "id"),
        error(group, "error"),
        offset(group, "offset"),
        prompt_tokens(group, "prompt_tokens"),
        output_tokens(group, "output_tokens"),
        first_output(group, "first_output"),
        outputs(group, "outputs"),
        arrived_seconds(group, "arrived_seconds"),
        first_token_seconds(group, "first_token_seconds"),
        finished_seconds(group, "finished_seconds"),
        run(group, "run") {
    if (with_prompts) {
      prompt_token_ids.emplace(group, "prompt_token_ids");
    }
  }

  void append(const FinishedRequest& request, std::int32_t of_run, std::int64_t output_row) {
    std::int64_t tokens = 0;
    for (const Completion& completion : request.completions) {
      tokens += static_cast<std::int64_t>(completion.token_ids.size());
    }
    id.append(request.id);
    error.append(request.error);
    offset.append(request.key.offset);
    prompt_tokens.append(static_cast<std::int32_t>(request.prompt_token_ids.size()));
    output_tokens.append(tokens);
    first_output.append(output_row);
    outputs.append(static_cast<std::int32_t>(request.completions.size()));
    arrived_seconds.append(request.arrived_seconds);
    first_token_seconds.append(request.first_token_seconds);
    finished_seconds.append(request.finished_seconds);
    run.append(of_run);
    if (prompt_token_ids) {
      prompt_token_ids->append(request.prompt_token_ids);
    }
  }

  void flush() {
    id.flush();
    error.flush();
    offset.flush();
    prompt_tokens.flush();
    output_tokens.flush();
    first_output.flush();
    outputs.flush();
    arrived_seconds.flush();
    first_token_seconds.flush();
    finished_seconds.flush();
    run.flush();
    if (prompt_token_ids) {
      prompt_token_ids->flush();
    }
  }

  Object group;
  RaggedWriter<std::uint8_t> id;
  RaggedWriter<std::uint8_t> error;
  ColumnWriter<std::int64_t> offset;
  ColumnWriter<std::int32_t> prompt_tokens;
  ColumnWriter<std::int64_t> output_tokens;
  ColumnWriter<std::int64_t> first_output;
  ColumnWriter<std::int32_t> outputs;
  ColumnWriter<double> arrived_seconds;
  ColumnWriter<double> first_token_seconds;
  ColumnWriter<double> finished_seconds;
  ColumnWriter<std::int32_t> run;
  std::optional<RaggedWriter<std::int32_t>> prompt_token_ids;
};

// /outputs/logprobs: positions of completion i are [offsets[i], offsets[i + 1]); the likeliest
// tokens of position p are [top_offsets[p], top_offsets[p + 1]).
struct LogprobColumns {
  explicit LogprobColumns(const Object& outputs)
      : group(hdf5::create_group(outputs, "logprobs")),
        offsets(group, "offsets"),
        token_id(group, "token_id"),
        logprob(group, "logprob"),
        rank(group, "rank"),
        top_offsets(group, "top_offsets"),
        top_token_id(group, "top_token_id"),
        top_logprob(group, "top_logprob") {}

  void append(const std::vector<TokenLogprobs>& positions) {
    offsets.append(positions.size());
    for (const TokenLogprobs& position : positions) {
      token_id.append(position.token);
      logprob.append(position.logprob);
      rank.append(position.rank);
      top_offsets.append(position.top.size());
      for (const auto& [token, value] : position.top) {
        top_token_id.append(token);
        top_logprob.append(value);
      }
    }
  }

  void flush() {
    offsets.flush();
    token_id.flush();
    logprob.flush();
    rank.flush();
    top_offsets.flush();
    top_token_id.flush();
    top_logprob.flush();
  }

  Object group;
  hdf5::OffsetsWriter offsets;
  ColumnWriter<std::int32_t> token_id;
  ColumnWriter<float> logprob;
  ColumnWriter<std::int32_t> rank;
  hdf5::OffsetsWriter top_offsets;
  ColumnWriter<std::int32_t> top_token_id;
  ColumnWriter<float> top_logprob;
};

// /outputs: one row per completion.
struct OutputColumns {
  OutputColumns(const Object& file, bool with_texts)
      : group(hdf5::create_group(file, "outputs")),
        request(group, "request"),
        completion(group, "completion"),
        finish_reason(group, "finish_reason", hdf5::Type::finish_reason),
        tokens(group, "tokens") {
    if (with_texts) {
      text.emplace(group, "text");
      token_ids.emplace(group, "token_ids");
      stop_reason.emplace(group, "stop_reason");
      logprobs.emplace(group);
    }
  }

  void append(std::int64_t request_row, const Completion& output) {
    request.append(request_row);
    completion.append(output.number);
    finish_reason.append(static_cast<std::uint8_t>(output.finish_reason));
    tokens.append(static_cast<std::int32_t>(output.token_ids.size()));
    if (text) {
      text->append(output.text);
      token_ids->append(output.token_ids);
      stop_reason->append(output.stop_reason);
      logprobs->append(output.logprobs);
    }
  }

  void flush() {
    request.flush();
    completion.flush();
    finish_reason.flush();
    tokens.flush();
    if (text) {
      text->flush();
      token_ids->flush();
      stop_reason->flush();
      logprobs->flush();
    }
  }

  Object group;
  ColumnWriter<std::int64_t> request;
  ColumnWriter<std::int32_t> completion;
  ColumnWriter<std::uint8_t> finish_reason;
  ColumnWriter<std::int32_t> tokens;
  std::optional<RaggedWriter<std::uint8_t>> text;
  std::optional<RaggedWriter<std::int32_t>> token_ids;
  std::optional<RaggedWriter<std::uint8_t>> stop_reason;
  std::optional<LogprobColumns> logprobs;
};

}  // namespace

class Hdf5ResultWriter::Impl {
 public:
  Impl(const std::filesystem::path& output, bool overwrite, Hdf5Contents contents, int mode)
      : partial_(output, overwrite, mode), file_(hdf5::create_file(partial_.path())) {
    hdf5::write_attribute(file_, "format", std::string(result_format_name));
    hdf5::write_attribute(file_, "schema_version", result_schema_version);
    hdf5::write_attribute(file_, "millrace_version", std::string(version()));
    requests_.emplace(file_, contents == Hdf5Contents::results_with_prompts);
    outputs_.emplace(file_, contents != Hdf5Contents::report);
  }

  void add(std::int64_t index, std::int32_t run, const FinishedRequest& request) {
    if (rows_ == 0) {
      first_index_ = index;
    }
    if (index != first_index_ + rows_) {
      throw std::logic_error(
          fmt::format("result {} was added after {} rows from {} on", index, rows_, first_index_));
    }
    requests_->append(request, run, output_rows_);
    for (const Completion& completion : request.completions) {
      outputs_->append(rows_, completion);
      ++output_rows_;
    }
    ++rows_;
  }

  void finish(const Report& report) {
    requests_->flush();
    outputs_->flush();
    requests_.reset();
    outputs_.reset();
    write_report(file_, report);
    hdf5::close_file(file_);
    partial_.complete();
  }

 private:
  PartialFile partial_;
  Object file_;
  std::optional<RequestColumns> requests_;
  std::optional<OutputColumns> outputs_;
  std::int64_t first_index_ = 0;
  std::int64_t rows_ = 0;
  std::int64_t output_rows_ = 0;
};

Hdf5ResultWriter::Hdf5ResultWriter(const std::filesystem::path& output, bool overwrite,
                                   Hdf5Contents contents, int mode)
    : impl_(std::make_unique<Impl>(output, overwrite, contents, mode)) {}
Hdf5ResultWriter::~Hdf5ResultWriter() = default;
void Hdf5ResultWriter::add(std::int64_t index, std::int32_t run, const FinishedRequest& request) {
  impl_->add(index, run, request);
}
void Hdf5ResultWriter::finish(const Report& report) { impl_->finish(report); }

}  // namespace millrace
