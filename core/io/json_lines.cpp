#include "core/io/json_lines.hpp"

#include <fmt/format.h>

#include <cmath>
#include <iterator>
#include <span>

#include "core/batch/request.hpp"
#include "core/text/unicode.hpp"

namespace millrace {
namespace {

template <typename T>
void append_number(std::string& out, T number) {
  fmt::format_to(std::back_inserter(out), "{}", number);
}

void append_token_ids(std::string& out, std::span<const std::int32_t> ids) {
  out += '[';
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) {
      out += ',';
    }
    append_number(out, ids[i]);
  }
  out += ']';
}

// The shortest decimals that read back as the same float. JSON has no infinity: the logarithm of
// probability 0 is null.
void append_logprob(std::string& out, float logprob) {
  if (std::isfinite(logprob)) {
    append_number(out, logprob);
  } else {
    out += "null";
  }
}

void append_logprobs(std::string& out, std::span<const TokenLogprobs> positions) {
  out += ",\"logprobs\":[";
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const TokenLogprobs& position = positions[i];
    out += i > 0 ? ",{\"token_id\":" : "{\"token_id\":";
    append_number(out, position.token);
    out += ",\"logprob\":";
    append_logprob(out, position.logprob);
    out += ",\"rank\":";
    append_number(out, position.rank);
    out += ",\"top\":[";
    for (std::size_t k = 0; k < position.top.size(); ++k) {
      out += k > 0 ? ",{\"token_id\":" : "{\"token_id\":";
      append_number(out, position.top[k].first);
      out += ",\"logprob\":";
      append_logprob(out, position.top[k].second);
      out += '}';
    }
    out += "]}";
  }
  out += ']';
}

// The fields of a completion, without braces.
void append_completion(std::string& out, const Completion& completion) {
  out += "\"text\":";
  append_json_string(out, completion.text);
  out += ",\"token_ids\":";
  append_token_ids(out, completion.token_ids);
  out += ",\"finish_reason\":\"";
  out += name(completion.finish_reason);
  out += "\",\"stop_reason\":";
  if (completion.stop_reason.empty()) {
    out += "null";
  } else {
    append_json_string(out, completion.stop_reason);
  }
  if (!completion.logprobs.empty()) {
    append_logprobs(out, completion.logprobs);
  }
}

}  // namespace

void append_json_string(std::string& out, std::string_view bytes) {
  std::string repaired;
  if (!text::is_valid_utf8(bytes)) {
    text::append_replacing_invalid(repaired, bytes);
    bytes = repaired;
  }
  out += '"';
  std::size_t plain = 0;  // start of what needs no escape
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    if (byte >= 0x20 && byte != '"' && byte != '\\') {
      continue;
    }
    out += bytes.substr(plain, i - plain);
    plain = i + 1;
    switch (byte) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte);
    }
  }
  out += bytes.substr(plain);
  out += '"';
}

void append_json_line(std::string& out, std::int64_t index, const FinishedRequest& request,
                      bool prompt_token_ids) {
  out += "{\"index\":";
  append_number(out, index);
  out += ",\"id\":";
  if (request.id.empty()) {
    out += "null";
  } else {
    append_json_string(out, request.id);
  }
  out += ',';
  if (request.completions.empty()) {
    out += R"("text":null,"token_ids":null,"finish_reason":"error","stop_reason":null)";
  } else if (request.completions.size() == 1) {
    append_completion(out, request.completions[0]);
  } else {
    out += "\"outputs\":[";
    for (std::size_t i = 0; i < request.completions.size(); ++i) {
      out += i > 0 ? ",{" : "{";
      append_completion(out, request.completions[i]);
      out += '}';
    }
    out += ']';
  }
  out += ",\"prompt_tokens\":";
  append_number(out, request.prompt_token_ids.size());
  if (prompt_token_ids) {
    out += ",\"prompt_token_ids\":";
    append_token_ids(out, request.prompt_token_ids);
  }
  out += ",\"error\":";
  if (request.error.empty()) {
    out += "null";
  } else {
    append_json_string(out, request.error);
  }
  out += "}\n";
}

}  // namespace millrace
