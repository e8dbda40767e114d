#include "core/io/prompt_line.hpp"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <charconv>
#include <limits>
#include <string>
#include <utility>

#include "core/batch/request.hpp"
#include "core/io/report.hpp"
#include "core/text/tokenizer.hpp"
#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace json = simdjson::ondemand;

// What the fields of one line say, before the prompt becomes tokens. The views point into the line
// and into the JSON parser, and live as long as its document.
struct Fields {
  std::string id;
  std::optional<std::string_view> text;
  std::optional<std::vector<std::int32_t>> token_ids;
  std::optional<std::string_view> messages;  // JSON
  std::string_view template_variables;       // JSON
  bool add_special_tokens = true;
  bool add_generation_prompt = true;
  SamplingParams sampling;
};

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

// The beginning of something that may be long.
std::string quoted_part(std::string_view text) {
  constexpr std::size_t longest = 60;
  return text.size() <= longest ? std::string(text) : std::string(text.substr(0, longest)) + "...";
}

// A value as the user wrote it.
std::string written(json::value value) {
  std::string_view token = value.raw_json_token();
  while (!token.empty() && static_cast<unsigned char>(token.back()) <= ' ') {
    token.remove_suffix(1);
  }
  return quoted_part(token);
}

[[noreturn]] void reject(std::string_view field, std::string_view expected, json::value value) {
  throw UserError("{} is {}, but must be {}", field, written(value), expected);
}

double real(std::string_view field, json::value value) {
  double number = 0;
  if (value.get_double().get(number) != simdjson::SUCCESS) {
    reject(field, "a number", value);
  }
  return number;
}

float real32(std::string_view field, json::value value) {
  return static_cast<float>(real(field, value));
}

std::int32_t integer32(std::string_view field, json::value value) {
  std::int64_t number = 0;
  if (value.get_int64().get(number) != simdjson::SUCCESS ||
      number != static_cast<std::int32_t>(number)) {
    reject(field, "a whole number of 32 bits", value);
  }
  return static_cast<std::int32_t>(number);
}

bool boolean(std::string_view field, json::value value) {
  bool flag = false;
  if (value.get_bool().get(flag) != simdjson::SUCCESS) {
    reject(field, "true or false", value);
  }
  return flag;
}

std::string_view string(std::string_view field, json::value value) {
  if (value.type() != json::json_type::string) {
    reject(field, "a string", value);
  }
  return value.get_string();
}

std::vector<std::int32_t> token_list(std::string_view field, json::value value) {
  if (value.type() != json::json_type::array) {
    reject(field, "an array of token ids", value);
  }
  std::vector<std::int32_t> ids;
  for (json::value element : value.get_array()) {
    ids.push_back(integer32(field, element));
  }
  return ids;
}

// The value's JSON text, of an array or an object.
std::string_view raw_json(std::string_view field, json::value value, json::json_type type) {
  if (value.type() != type) {
    reject(field, type == json::json_type::array ? "an array" : "an object", value);
  }
  if (type == json::json_type::array) {
    json::array array = value.get_array();
    return array.raw_json();
  }
  json::object object = value.get_object();
  return object.raw_json();
}

void set_id(Fields& fields, std::string_view name, json::value value) {
  if (value.type() == json::json_type::string) {
    fields.id = std::string(string(name, value));
    return;
  }
  std::int64_t number = 0;
  if (value.get_int64().get(number) != simdjson::SUCCESS) {
    reject(name, "a string or a whole number", value);
  }
  fields.id = fmt::format("{}", number);
}

void set_prompt(Fields& fields, std::string_view name, json::value value) {
  if (value.type() == json::json_type::string) {
    fields.text = string(name, value);
  } else if (value.type() == json::json_type::array) {
    fields.token_ids = token_list(name, value);
  } else {
    reject(name, "a string or an array of token ids", value);
  }
}

void set_seed(Fields& fields, std::string_view name, json::value value) {
  std::uint64_t seed = 0;
  if (value.get_uint64().get(seed) != simdjson::SUCCESS) {
    reject(name, "a whole number of at least 0", value);
  }
  fields.sampling.seed = seed;
}

void set_stop(Fields& fields, std::string_view name, json::value value) {
  fields.sampling.stop.clear();
  if (value.type() == json::json_type::string) {
    fields.sampling.stop.emplace_back(string(name, value));
    return;
  }
  if (value.type() != json::json_type::array) {
    reject(name, "a string or an array of strings", value);
  }
  for (json::value element : value.get_array()) {
    fields.sampling.stop.emplace_back(string(name, element));
  }
}

void set_logit_bias(Fields& fields, std::string_view name, json::value value) {
  if (value.type() != json::json_type::object) {
    reject(name, "an object of token ids and numbers", value);
  }
  fields.sampling.logit_bias.clear();
  for (auto field : value.get_object()) {
    const std::string_view key = field.unescaped_key();
    std::int32_t token = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
    if (error != std::errc() || end != key.data() + key.size()) {
      throw UserError("{} has the key \"{}\", but must have token ids", name, quoted_part(key));
    }
    fields.sampling.logit_bias.emplace_back(token, real32(name, field.value()));
  }
}

struct Field {
  std::string_view name;
  void (*set)(Fields&, std::string_view name, json::value);
};

// Most fields set one member of SamplingParams.
template <auto member>
void set_real(Fields& fields, std::string_view name, json::value value) {
  fields.sampling.*member = real32(name, value);
}
template <auto member>
void set_integer(Fields& fields, std::string_view name, json::value value) {
  fields.sampling.*member = integer32(name, value);
}
template <auto member>
void set_boolean(Fields& fields, std::string_view name, json::value value) {
  fields.sampling.*member = boolean(name, value);
}

constexpr std::array known_fields = {
    Field{"prompt", set_prompt},
    Field{"id", set_id},
    Field{"messages",
          [](Fields& fields, std::string_view name, json::value value) {
            fields.messages = raw_json(name, value, json::json_type::array);
          }},
    Field{"temperature", set_real<&SamplingParams::temperature>},
    Field{"top_p", set_real<&SamplingParams::top_p>},
    Field{"top_k", set_integer<&SamplingParams::top_k>},
    Field{"min_p", set_real<&SamplingParams::min_p>},
    Field{"repetition_penalty", set_real<&SamplingParams::repetition_penalty>},
    Field{"presence_penalty", set_real<&SamplingParams::presence_penalty>},
    Field{"frequency_penalty", set_real<&SamplingParams::frequency_penalty>},
    Field{"logit_bias", set_logit_bias},
    Field{"seed", set_seed},
    Field{"max_tokens", set_integer<&SamplingParams::max_tokens>},
    Field{"min_tokens", set_integer<&SamplingParams::min_tokens>},
    Field{"stop", set_stop},
    Field{"stop_token_ids",
          [](Fields& fields, std::string_view name, json::value value) {
            fields.sampling.stop_token_ids = token_list(name, value);
          }},
    Field{"ignore_eos", set_boolean<&SamplingParams::ignore_eos>},
    Field{"include_stop_str_in_output", set_boolean<&SamplingParams::include_stop_str_in_output>},
    Field{"skip_special_tokens", set_boolean<&SamplingParams::skip_special_tokens>},
    Field{"logprobs", set_integer<&SamplingParams::logprobs>},
    Field{"n", set_integer<&SamplingParams::n>},
    Field{"add_special_tokens",
          [](Fields& fields, std::string_view name, json::value value) {
            fields.add_special_tokens = boolean(name, value);
          }},
    Field{"add_generation_prompt",
          [](Fields& fields, std::string_view name, json::value value) {
            fields.add_generation_prompt = boolean(name, value);
          }},
    Field{"chat_template_kwargs",
          [](Fields& fields, std::string_view name, json::value value) {
            fields.template_variables = raw_json(name, value, json::json_type::object);
          }},
};

// The line ends with \r when the file was written on Windows.
std::string_view without_carriage_return(std::string_view line) {
  if (line.ends_with('\r')) {
    line.remove_suffix(1);
  }
  return line;
}

void require_utf8(std::string_view line) {
  if (simdjson::validate_utf8(line.data(), line.size())) {
    return;
  }
  std::size_t at = 0;
  for (text::Utf8Step step{}; (step = text::scan_utf8(line, at)).valid;) {
    at += step.length;
  }
  throw UserError("invalid UTF-8 at byte {} of the line", at);
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
    Fields fields;
    fields.sampling = defaults_;
    try {
      line = without_carriage_return(line);
      if (line.empty()) {
        throw UserError("the line is empty");
      }
      if (options_.format == PromptFormat::json_lines) {
        read_json(line, fields);
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
    } catch (const UserError& error) {
      request.error = presentable(error.what());
      request.prompt_tokens.clear();
    }
    request.id = std::move(fields.id);
    request.sampling = std::move(fields.sampling);
    if (line.size() > keep_bytes) {
      // A parser's memory is several times its longest line: start afresh after a giant.
      json_parser_ = json::parser();
      padded_ = {};
    }
    return request;
  }

 private:
  void read_json(std::string_view line, Fields& fields) {
    padded_.reserve(line.size() + simdjson::SIMDJSON_PADDING);
    padded_.assign(line);
    try {
      json::document document =
          json_parser_.iterate(padded_.data(), padded_.size(), padded_.capacity());
      read_object(document, fields);
      if (document.current_location().error() == simdjson::SUCCESS) {
        throw UserError("invalid JSON: something follows the object");
      }
    } catch (const simdjson::simdjson_error& error) {
      if (error.error() == simdjson::UTF8_ERROR) {
        require_utf8(line);
      }
      throw UserError("invalid JSON: {}", error.what());
    }
  }

  static void read_object(json::document& document, Fields& fields) {
    if (document.type() != json::json_type::object) {
      throw UserError("the line is not a JSON object");
    }
    std::bitset<known_fields.size()> seen;
    for (auto member : document.get_object()) {
      const std::string_view name = member.unescaped_key();
      const auto field = std::ranges::find(known_fields, name, &Field::name);
      if (field == known_fields.end()) {
        throw UserError("unknown field \"{}\"", quoted_part(name));
      }
      const auto number = static_cast<std::size_t>(field - known_fields.begin());
      if (seen[number]) {
        throw UserError("the field {} is given twice", name);
      }
      seen[number] = true;
      json::value value = member.value();
      const bool is_null = value.is_null();
      if (!is_null) {
        field->set(fields, field->name, value);
      }
    }
  }

  std::vector<std::int32_t> tokens(Fields& fields) const {
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
          "is "
          "{}",
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
  json::parser json_parser_;
  std::string padded_;  // the line, with the room behind it that simdjson reads
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
