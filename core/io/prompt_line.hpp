// One line of the prompt file into a Request.
//
// .txt: the line is the prompt, as it stands (a \r before the newline is not part of it).
// .jsonl: an object with "prompt" (text, or an array of token ids) or "messages" (a chat, rendered
// by the model's template), optionally "id" (a string or integer) and sampling fields by the names
// that vLLM uses: temperature, top_p, top_k, min_p, repetition_penalty, presence_penalty,
// frequency_penalty, seed, max_tokens, min_tokens, stop, stop_token_ids, ignore_eos,
// include_stop_str_in_output, skip_special_tokens, add_special_tokens, logit_bias, logprobs, n.
// null means "not given". What is not given has the job's default. A field of another name, or one
// that is given twice, is an error. An empty line is an error in both formats (it stays a line of
// the file and has a result).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace millrace {

struct Request;
struct SamplingParams;
class Tokenizer;
class ChatTemplate;

enum class PromptFormat : std::uint8_t { text, json_lines };

// By the file's ending: ".txt" or ".jsonl". Throws UserError for any other.
PromptFormat prompt_format(const std::string& path);

struct PromptLineOptions {
  std::int32_t max_model_len = 0;  // prompt and at least one new token must fit
  std::int32_t vocab_size = 0;     // token ids must be below
  bool add_special_tokens = true;  // to text prompts; a chat template writes its own
};

class PromptLineParser {
 public:
  // The references must outlive the parser; `chat` may be null: then "messages" is an error.
  PromptLineParser(PromptLineOptions options, const SamplingParams& defaults,
                   const Tokenizer& tokenizer, const ChatTemplate* chat);
  ~PromptLineParser();
  PromptLineParser(PromptLineParser&&) noexcept;

  // `line` is without its newline. Never throws for what a line contains: a bad line gives a
  // Request whose `error` says what is wrong, naming the field and the value. One thread at a time.
  Request parse(PromptFormat format, std::int64_t offset, std::string_view line) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace
