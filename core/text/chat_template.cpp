// Where chat templates come from, and requests to the process that renders them.
#include "core/text/chat_template.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/text/chat_renderer.hpp"
#include "core/text/gguf_tokenizer.hpp"
#include "core/text/json_reader.hpp"
#include "core/text/tokenizer_files.hpp"
#include "core/text/unicode.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;

// Python and Jinja2 have to be read from a file system that may be shared and busy.
constexpr std::chrono::seconds kStartTime{60};
// The process stops a render itself; it is killed only if it cannot.
constexpr std::chrono::seconds kGraceTime{2};
// In JSON a character can take six times its bytes.
constexpr std::size_t kJsonExpansion = 6;
// Enough for an error.
constexpr std::size_t kSmallAnswer = std::size_t{1} << 20;

// `chat_template` of a tokenizer_config.json: text, or a list of named ones.
std::optional<std::string> template_in_config(std::string_view json, std::string_view name) {
  const text::JsonDocument document(json, name);
  const auto value = document.root().find("chat_template");
  if (!value) return std::nullopt;
  if (value->is_string()) return std::string(value->string());
  std::optional<std::string> found;
  std::string names;
  value->for_each([&](const text::JsonValue& entry) {
    if (entry.at("name").string() == "default") found = entry.at("template").string();
    names.append(names.empty() ? "" : ", ").append(entry.at("name").string());
  });
  if (!found)
    throw UserError("{} has no chat template \"default\", only: {}", name, text::printable(names));
  return found;
}

}  // namespace

std::optional<ChatTemplateSource> load_chat_template(const std::filesystem::path& folder,
                                                     const std::filesystem::path& override_file) {
  ChatTemplateSource source;
  std::optional<std::string> found;
  for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
    const std::filesystem::path path = folder / name;
    if (!std::filesystem::exists(path)) continue;
    const std::string json = text::read_text_file(path);
    for (auto& [key, token] : text::read_special_tokens(json, path.string())) {
      source.special_tokens[key] = std::move(token);
    }
    found = template_in_config(json, path.string());
  }
  if (!override_file.empty()) {
    found = text::read_text_file(override_file);
  } else if (std::filesystem::exists(folder / "chat_template.jinja")) {
    found = text::read_text_file(folder / "chat_template.jinja");
  }
  if (!found) return std::nullopt;
  source.text = *std::move(found);
  return source;
}

std::optional<ChatTemplateSource> load_chat_template(const GgufTokenizerData& data,
                                                     const std::filesystem::path& override_file) {
  ChatTemplateSource source;
  source.text = override_file.empty() ? data.chat_template : text::read_text_file(override_file);
  if (source.text.empty()) return std::nullopt;
  for (const auto& [key, id] :
       {std::pair{"bos_token", data.bos_id}, std::pair{"eos_token", data.eos_id},
        std::pair{"unk_token", data.unk_id}, std::pair{"pad_token", data.pad_id}}) {
    if (id && *id >= 0 && static_cast<std::size_t>(*id) < data.tokens.size()) {
      source.special_tokens[key] = data.tokens[static_cast<std::size_t>(*id)];
    }
  }
  return source;
}

class ChatTemplate::Renderer {
 public:
  Renderer(ChatTemplateSource source, ChatTemplateLimits limits)
      : source_(std::move(source)), limits_(limits) {}

  std::string render(const std::string& request) {
    const std::lock_guard lock(mutex_);
    if (hopeless_) throw ChatTemplateUnusable(*hopeless_);
    if (process_ == nullptr) start();
    try {
      return read_answer(process_->ask(request, render_deadline(),
                                       kJsonExpansion * limits_.output_bytes + kSmallAnswer));
    } catch (const Refused&) {
      throw;  // the process is well and says no
    } catch (...) {
      process_.reset();
      throw;
    }
  }

 private:
  struct Refused : UserError {
    using UserError::UserError;
  };

  Clock::time_point render_deadline() const {
    return Clock::now() + limits_.render_time + kGraceTime;
  }

  // What fails here would fail for every request.
  void start() {
    try {
      auto process = std::make_unique<text::ChatProcess>();
      check_ready(process->ask("", Clock::now() + kStartTime, kSmallAnswer));
      const nlohmann::json setup = {
          {"template", source_.text},
          {"special_tokens", source_.special_tokens},
          {"render_seconds", std::chrono::duration<double>(limits_.render_time).count()},
          {"output_bytes", limits_.output_bytes}};
      check_ready(process->ask(setup.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace),
                               render_deadline(), kSmallAnswer));
      process_ = std::move(process);
    } catch (const UserError& error) {
      hopeless_ = text::printable(error.what());
      throw ChatTemplateUnusable(*hopeless_);
    }
  }

  static void check_ready(const std::string& answer) {
    const text::JsonDocument document(answer, "chat template process");
    if (const auto why = document.root().find("fatal")) throw UserError("{}", why->string());
  }

  static std::string read_answer(const std::string& answer) {
    const text::JsonDocument document(answer, "chat template process");
    if (const auto why = document.root().find("error")) throw Refused(std::string(why->string()));
    return std::string(document.root().at("text").string());
  }

  const ChatTemplateSource source_;
  const ChatTemplateLimits limits_;
  std::mutex mutex_;
  std::unique_ptr<text::ChatProcess> process_;
  std::optional<std::string> hopeless_;  // why no render can ever succeed
};

ChatTemplate::ChatTemplate(ChatTemplateSource source, ChatTemplateLimits limits)
    : renderer_(std::make_unique<Renderer>(std::move(source), limits)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

std::string ChatTemplate::render(std::string_view messages_json, bool add_generation_prompt,
                                 std::string_view variables_json) const {
  if (!text::JsonDocument(messages_json, "messages").root().is_array()) {
    throw UserError("messages must be an array");
  }
  if (variables_json.empty()) variables_json = "{}";
  if (!text::JsonDocument(variables_json, "chat template variables").root().is_object()) {
    throw UserError("chat template variables must be an object");
  }
  std::string request =
      fmt::format(R"({{"messages":{},"add_generation_prompt":{},"variables":{}}})", messages_json,
                  add_generation_prompt, variables_json);
  // A request is one line. Within JSON strings there are no raw line ends.
  std::replace(request.begin(), request.end(), '\n', ' ');
  return renderer_->render(request);
}

}  // namespace millrace
