// Chat messages to prompt text with the checkpoint's own Jinja template.
//
// Checkpoints carry arbitrary Jinja2 programs, so Jinja2 itself renders them: a python3 co-process
// runs the template in Jinja2's immutable sandbox, set up as transformers sets it up, and speaks
// one JSON line per request over a socket. It is started by the first render() and serves all
// later ones. A template that runs too long or writes too much is stopped, the co-process with it;
// the next render() starts a new one.
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/base/error.hpp"

namespace millrace {

struct GgufTokenizerData;

// A template's text and the special tokens it may name (bos_token, eos_token, ...).
struct ChatTemplateSource {
  std::string text;
  std::map<std::string, std::string> special_tokens;
};

// The template of a model folder: chat_template.jinja, else `chat_template` in
// tokenizer_config.json (text, or a list of named ones of which "default" is taken). Empty when
// the checkpoint has none. `override_file` (--chat-template) takes the place of either.
// UserError: a file that cannot be read or parsed.
std::optional<ChatTemplateSource> load_chat_template(
    const std::filesystem::path& folder, const std::filesystem::path& override_file = {});

// The same for a GGUF file's `tokenizer.chat_template`.
std::optional<ChatTemplateSource> load_chat_template(
    const GgufTokenizerData& data, const std::filesystem::path& override_file = {});

// Nobody's messages can be rendered: python3 or jinja2 is missing, or the template does not
// compile. No request's fault, so that a job should end rather than give each one this error.
class ChatTemplateUnusable : public UserError {
 public:
  using UserError::UserError;
};

struct ChatTemplateLimits {
  std::chrono::milliseconds render_time{10'000};  // one render; the start has 60 s of its own
  std::size_t output_bytes = std::size_t{64} << 20;
};

class ChatTemplate {
 public:
  // Starts nothing yet.
  explicit ChatTemplate(ChatTemplateSource source, ChatTemplateLimits limits = {});
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // The prompt for `messages_json`, the JSON array of a chat request. `variables_json`, if given,
  // is a JSON object of further template variables (tools, documents, enable_thinking, ...).
  // Encode the result with add_special_tokens = false. May be called from any thread; renders
  // queue.
  // ChatTemplateUnusable, from then on for every request; or UserError, of this request only: a
  // template that refuses these messages (raise_exception), runs too long or writes too much.
  std::string render(std::string_view messages_json, bool add_generation_prompt = true,
                     std::string_view variables_json = {}) const;

 private:
  class Renderer;
  std::unique_ptr<Renderer> renderer_;
};

}  // namespace millrace
