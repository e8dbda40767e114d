#include "core/job/prompt_log.hpp"

#include <string>
#include <string_view>

#include "core/io/json_lines.hpp"
#include "core/job/log.hpp"

namespace millrace {
namespace {

constexpr std::size_t most_bytes = 500;

// As a JSON string, so that a prompt can neither begin a line of its own nor speak to a terminal.
std::string as_json(std::string_view text) {
  std::string line;
  append_json_string(line, text.substr(0, most_bytes));
  if (text.size() > most_bytes) line += fmt::format("... ({} bytes)", text.size());
  return line;
}

}  // namespace

void PromptLog::prompt(const Request& request) const {
  if (!request.error.empty()) {
    log_text(
        fmt::format("prompt at byte {}: refused: {}", request.key.offset, as_json(request.error)));
    return;
  }
  log_text(fmt::format("prompt at byte {}, {} tokens: {}", request.key.offset,
                       request.prompt_tokens.size(),
                       as_json(tokenizer_.decode(request.prompt_tokens, false))));
}

void PromptLog::put(FinishedRequest&& finished) {
  for (const Completion& completion : finished.completions) {
    log_text(fmt::format("answer to byte {}, {} tokens, {}: {}", finished.key.offset,
                         completion.token_ids.size(), name(completion.finish_reason),
                         as_json(completion.text)));
  }
  next_.put(std::move(finished));
}

}  // namespace millrace
