#include "core/io/prompt_fields.hpp"

#include <simdjson.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

namespace json = simdjson::ondemand;

// The beginning of something that may be long.
std::string quoted_part(std::string_view text) {
  constexpr std::size_t longest = 60;
  return text.size() <= longest ? std::string(text) : std::string(text.substr(0, longest)) + "...";
}

// A value as the user wrote it; of an array or an object only what it is.
std::string written(json::value value) {
  std::string_view token = value.raw_json_token();
  if (token.starts_with('[')) return "an array";
  if (token.starts_with('{')) return "an object";
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
  const double number = real(field, value);
  if (std::abs(number) > std::numeric_limits<float>::max()) {
    reject(field, "a number that a float holds", value);
  }
  return static_cast<float>(number);
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

void set_messages(PromptFields& fields, std::string_view name, json::value value) {
  if (value.type() != json::json_type::array) {
    reject(name, "an array", value);
  }
  json::array array = value.get_array();
  if (array.is_empty()) {
    throw UserError("{} is empty", name);
  }
  fields.messages = std::string_view(array.raw_json());
}

void set_id(PromptFields& fields, std::string_view name, json::value value) {
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

void set_prompt(PromptFields& fields, std::string_view name, json::value value) {
  if (value.type() == json::json_type::string) {
    fields.text = string(name, value);
  } else if (value.type() == json::json_type::array) {
    fields.token_ids = token_list(name, value);
  } else {
    reject(name, "a string or an array of token ids", value);
  }
}

void set_seed(PromptFields& fields, std::string_view name, json::value value) {
  std::uint64_t seed = 0;
  if (value.get_uint64().get(seed) != simdjson::SUCCESS) {
    reject(name, "a whole number of at least 0", value);
  }
  fields.sampling.seed = seed;
}

void set_stop(PromptFields& fields, std::string_view name, json::value value) {
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

void set_logit_bias(PromptFields& fields, std::string_view name, json::value value) {
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

// What is wrong with a line that simdjson refuses. It looks at the line's last character first,
// so that what is cut short and what has something behind its object are one to it.
std::string reason(const simdjson::simdjson_error& error) {
  if (error.error() == simdjson::EMPTY) return "the line is empty";
  if (error.error() == simdjson::INCOMPLETE_ARRAY_OR_OBJECT) {
    return "invalid JSON: the line does not end where its object ends";
  }
  return fmt::format("invalid JSON: {}", error.what());
}

struct Field {
  std::string_view name;
  void (*set)(PromptFields&, std::string_view name, json::value);
};

// Most fields set one member of SamplingParams.
template <auto member>
void set_real(PromptFields& fields, std::string_view name, json::value value) {
  fields.sampling.*member = real32(name, value);
}
template <auto member>
void set_integer(PromptFields& fields, std::string_view name, json::value value) {
  fields.sampling.*member = integer32(name, value);
}
template <auto member>
void set_boolean(PromptFields& fields, std::string_view name, json::value value) {
  fields.sampling.*member = boolean(name, value);
}

constexpr std::array known_fields = {
    Field{"prompt", set_prompt},
    Field{"id", set_id},
    Field{"messages", set_messages},
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
          [](PromptFields& fields, std::string_view name, json::value value) {
            fields.sampling.stop_token_ids = token_list(name, value);
          }},
    Field{"ignore_eos", set_boolean<&SamplingParams::ignore_eos>},
    Field{"include_stop_str_in_output", set_boolean<&SamplingParams::include_stop_str_in_output>},
    Field{"skip_special_tokens", set_boolean<&SamplingParams::skip_special_tokens>},
    Field{"logprobs", set_integer<&SamplingParams::logprobs>},
    Field{"n", set_integer<&SamplingParams::n>},
    Field{"add_special_tokens",
          [](PromptFields& fields, std::string_view name, json::value value) {
            fields.add_special_tokens = boolean(name, value);
          }},
    Field{"add_generation_prompt",
          [](PromptFields& fields, std::string_view name, json::value value) {
            fields.add_generation_prompt = boolean(name, value);
          }},
    Field{"chat_template_kwargs",
          [](PromptFields& fields, std::string_view name, json::value value) {
            if (value.type() != json::json_type::object) {
              reject(name, "an object", value);
            }
            json::object object = value.get_object();
            fields.template_variables = object.raw_json();
          }},
};

}  // namespace

class PromptFieldReader::Impl {
 public:
  void read(std::string_view line, PromptFields& fields) {
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
      throw UserError("{}", reason(error));
    }
  }

  void shrink() {
    json_parser_ = json::parser();
    padded_ = {};
  }

 private:
  static void read_object(json::document& document, PromptFields& fields) {
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

  json::parser json_parser_;
  std::string padded_;  // the line, with the room behind it that simdjson reads
};

PromptFieldReader::PromptFieldReader() : impl_(std::make_unique<Impl>()) {}
PromptFieldReader::~PromptFieldReader() = default;
PromptFieldReader::PromptFieldReader(PromptFieldReader&&) noexcept = default;
void PromptFieldReader::read(std::string_view line, PromptFields& fields) {
  impl_->read(line, fields);
}
void PromptFieldReader::shrink() { impl_->shrink(); }

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

}  // namespace millrace
