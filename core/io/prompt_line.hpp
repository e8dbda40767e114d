// One line of the prompt file into a Request.
//
// .txt: the line is the prompt, as it stands (a \r before the newline is not part of it).
// .jsonl: an object with "prompt" (text, or an array of token ids) or "messages" (a chat, rendered
// by the model's template), and optionally
//   "id"          a string or a whole number, handed back as a string
//   sampling      temperature, top_p, top_k, min_p, repetition_penalty, presence_penalty,
//                 frequency_penalty, logit_bias, seed, max_tokens, min_tokens, stop,
//                 stop_token_ids, ignore_eos, include_stop_str_in_output, skip_special_tokens,
//                 logprobs, n
//   tokenizing    add_special_tokens (for a text prompt), add_generation_prompt and
//                 chat_template_kwargs (for messages)
// by the names and meanings that vLLM uses. null means "not given"; what is not given has the job's
// default. A field of another name, or one that is given twice, is an error.
//
// An empty line is an error in both formats: it stays a line of the file and has a result.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace millrace {

struct Request;
struct SamplingParams;
class Tokenizer;

enum class PromptFormat : std::uint8_t { text, json_lines };

// By the file's ending: ".txt" or ".jsonl". Throws UserError for any other.
PromptFormat prompt_format(std::string_view path);

// Renders a chat into the text of a prompt (ChatTemplate::render): the JSON of "messages", whether
// the text ends by opening the answer, and the JSON of "chat_template_kwargs" or nothing. Throws
// UserError for messages that the template refuses, and ChatTemplateUnusable.
using RenderChat = std::function<std::string(std::string_view messages, bool add_generation_prompt,
                                             std::string_view variables)>;

struct PromptLineOptions {
  PromptFormat format = PromptFormat::text;
  std::int32_t max_model_len = 0;  // prompt and at least one new token must fit
  std::int32_t vocab_size = 0;     // token ids must be below
};

class PromptLineParser {
 public:
  // The tokenizer must outlive the parser. Without `render_chat` (the model has no chat template)
  // "messages" is an error.
  PromptLineParser(PromptLineOptions options, const SamplingParams& defaults,
                   const Tokenizer& tokenizer, RenderChat render_chat);
  ~PromptLineParser();
  PromptLineParser(PromptLineParser&&) noexcept;

  // `line` is without its newline; `offset` is where it begins in the file. Never throws for what a
  // line contains: a bad line gives a Request whose `error` says what is wrong, naming field and
  // value. Throws ChatTemplateUnusable.
  Request parse(std::int64_t offset, std::string_view line);

  // The Request for a line that was not read to its end because it is longer than `limit` bytes.
  static Request too_long(std::int64_t offset, std::int64_t limit);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace
