#include "core/io/prompt_line.hpp"

#include <initializer_list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/batch/request.hpp"
#include "core/io/prompt_fields.hpp"
#include "core/io/report.hpp"
#include "core/text/chat_template.hpp"
#include "core/text/tokenizer.hpp"
#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// An error goes to logs and terminals, and may quote what a line or a template says: one line of
// printable text, of bounded length.
std::string presentable(std::string_view error) {
  constexpr std::size_t longest = 500;
  std::string text;
  text::append_replacing_invalid(text, error.substr(0, longest));
  for (char& c : text) {
    if (c == '\n' || c == '\r' || c == '\t') {
      c = ' ';
    } else if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') {
      c = '?';
    }
  }
  return error.size() > longest ? text + "..." : text;
}

// The line ends with \r when the file was written on Windows.
std::string_view without_carriage_return(std::string_view line) {
  if (line.ends_with('\r')) {
    line.remove_suffix(1);
  }
  return line;
}

}  // namespace

class PromptLineParser::Impl {
 public:
  Impl(PromptLineOptions options, const SamplingParams& defaults, const Tokenizer& tokenizer,
       RenderChat render_chat)
      : options_(options),
        defaults_(defaults),
        tokenizer_(tokenizer),
        render_chat_(std::move(render_chat)) {}

  Request parse(std::int64_t offset, std::string_view line) {
    Request request;
    request.key.offset = offset;
    PromptFields fields;
    fields.sampling = defaults_;
    try {
      line = without_carriage_return(line);
      if (line.empty()) {
        throw UserError("the line is empty");
      }
      if (options_.format == PromptFormat::json_lines) {
        field_reader_.read(line, fields);
      } else {
        require_utf8(line);
        fields.text = line;
      }
      validate(fields.sampling);
      request.prompt_tokens = tokens(fields);
      check_length(request.prompt_tokens.size());
      check_vocabulary(request.prompt_tokens, "the prompt");
      check_vocabulary(fields.sampling.stop_token_ids, "stop_token_ids");
      for (const auto& [token, bias] : fields.sampling.logit_bias) {
        check_vocabulary({token}, "logit_bias");
      }
    } catch (const ChatTemplateUnusable&) {
      throw;  // not the line's fault
    } catch (const UserError& error) {
      request.error = presentable(error.what());
      request.prompt_tokens.clear();
    }
    request.id = std::move(fields.id);
    request.sampling = std::move(fields.sampling);
    if (line.size() > keep_bytes) {
      field_reader_.shrink();
    }
    return request;
  }

 private:
  std::vector<std::int32_t> tokens(PromptFields& fields) const {
    const int given = int{fields.text.has_value()} + int{fields.token_ids.has_value()} +
                      int{fields.messages.has_value()};
    if (given != 1) {
      throw UserError(given == 0 ? "the line has neither \"prompt\" nor \"messages\""
                                 : "the line has both \"prompt\" and \"messages\"");
    }
    std::vector<std::int32_t> ids;
    if (fields.token_ids) {
      ids = std::move(*fields.token_ids);
    } else if (fields.text) {
      if (fields.text->empty()) {
        throw UserError("the prompt is empty");
      }
      ids = tokenizer_.encode(*fields.text, fields.add_special_tokens);
    } else {
      if (!render_chat_) {
        throw UserError("\"messages\" needs a chat template, and the model has none");
      }
      ids = tokenizer_.encode(
          render_chat_(*fields.messages, fields.add_generation_prompt, fields.template_variables),
          false);
    }
    if (ids.empty()) {
      throw UserError("the prompt has no tokens");
    }
    return ids;
  }

  void check_length(std::size_t prompt_tokens) const {
    if (prompt_tokens + 1 > static_cast<std::size_t>(options_.max_model_len)) {
      throw UserError(
          "the prompt has {} tokens, which leaves no room for a new one: the maximum model length "
          "is {}",
          with_commas(static_cast<std::int64_t>(prompt_tokens)),
          with_commas(options_.max_model_len));
    }
  }

  void check_vocabulary(std::span<const std::int32_t> ids, std::string_view what) const {
    for (const std::int32_t id : ids) {
      if (id < 0 || id >= options_.vocab_size) {
        throw UserError("{} has the token id {}, but the model's vocabulary is 0 to {}", what, id,
                        options_.vocab_size - 1);
      }
    }
  }
  void check_vocabulary(std::initializer_list<std::int32_t> ids, std::string_view what) const {
    check_vocabulary(std::span(ids.begin(), ids.size()), what);
  }

  static constexpr std::size_t keep_bytes = 1 << 20;

  PromptLineOptions options_;
  SamplingParams defaults_;
  const Tokenizer& tokenizer_;
  RenderChat render_chat_;
  PromptFieldReader field_reader_;
};

PromptFormat prompt_format(std::string_view path) {
  if (path.ends_with(".txt")) {
    return PromptFormat::text;
  }
  if (path.ends_with(".jsonl")) {
    return PromptFormat::json_lines;
  }
  throw UserError("{}: a prompt file is named *.txt or *.jsonl", path);
}

PromptLineParser::PromptLineParser(PromptLineOptions options, const SamplingParams& defaults,
                                   const Tokenizer& tokenizer, RenderChat render_chat)
    : impl_(std::make_unique<Impl>(options, defaults, tokenizer, std::move(render_chat))) {}
PromptLineParser::~PromptLineParser() = default;
PromptLineParser::PromptLineParser(PromptLineParser&&) noexcept = default;

Request PromptLineParser::parse(std::int64_t offset, std::string_view line) {
  return impl_->parse(offset, line);
}

Request PromptLineParser::too_long(std::int64_t offset, std::int64_t limit) {
  Request request;
  request.key.offset = offset;
  request.error = fmt::format("the line is longer than {} bytes", with_commas(limit));
  return request;
}

}  // namespace millrace
