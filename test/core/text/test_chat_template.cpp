// Chat templates render as transformers renders them; what a template does wrong is an error of its
// request only.
#include "core/text/chat_template.hpp"

#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/text/gguf_tokenizer.hpp"
#include "kernels/base/error.hpp"
#include "test/core/text/golden.hpp"
#include "test/temporary_folder.hpp"

namespace millrace {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr const char* kHello = R"([{"role":"user","content":"hello"}])";

std::string error_of(const ChatTemplate& chat, std::string_view messages = kHello) {
  try {
    return "no error, but: " + chat.render(messages);
  } catch (const UserError& error) {
    return error.what();
  }
}

// An environment variable with another value for a while.
class WithEnvironment {
 public:
  WithEnvironment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    ::setenv(name, value, 1);
  }
  ~WithEnvironment() { old_ ? ::setenv(name_, old_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

TEST(ChatTemplate, RendersAsTransformersDoes) {
  const auto cases = nlohmann::ordered_json::parse(
      text::file_bytes(std::filesystem::path(MILLRACE_TEST_DATA) / "chat" / "golden.json"));
  ASSERT_GE(cases.size(), 40u);
  std::map<std::string, ChatTemplate> templates;
  for (const auto& test : cases) {
    const std::string source = test["template"];
    auto [chat, added] =
        templates.try_emplace(source, ChatTemplateSource{source, test["special_tokens"]});
    std::string text;
    std::string error;
    try {
      text = chat->second.render(test["messages"].dump(2), test["add_generation_prompt"],
                                 test["variables"].dump());
    } catch (const UserError& caught) {
      error = caught.what();
    }
    if (test.contains("text")) {
      EXPECT_EQ(text, test["text"].get<std::string>()) << test["name"] << error;
    } else {
      EXPECT_THAT(error, HasSubstr(test["error"].get<std::string>())) << test["name"];
    }
  }
}

// What OpenAI's API calls content parts.
constexpr const char* kParts =
    R"([{"role":"user","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]}])";

TEST(ChatTemplate, ContentPartsAreJoinedForATemplateThatTakesText) {
  const ChatTemplate chat({"{% for m in messages %}<{{ m['content'] | trim }}>{% endfor %}", {}});
  EXPECT_EQ(chat.render(kParts), "<one\ntwo>");
  EXPECT_EQ(chat.render(R"([{"content":["a",{"type":"text","text":"b"}]}])"), "<a\nb>");
  EXPECT_EQ(error_of(chat, R"([{"content":[{"type":"image_url","image_url":{"url":"u"}}]}])"),
            "content has the part \"image_url\", but the model takes text alone");
  EXPECT_THAT(error_of(chat, R"([{"content":[{"type":"text"}]}])"), HasSubstr("\"text\""));
  EXPECT_THAT(error_of(chat, R"([{"content":[5]}])"), HasSubstr("the part 5"));
}

TEST(ChatTemplate, ContentPartsStayForATemplateThatGoesThroughThem) {
  for (const char* source :
       {"{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}",
        "{% for m in messages %}{% set all = m['content'] %}{% for p in all | list %}<{{ p.text }}>"
        "{% endfor %}{% endfor %}",
        "{% macro show(content) %}{% for p in content %}<{{ p.text }}>{% endfor %}{% endmacro %}"
        "{{ show(messages[0]['content']) }}"}) {
    EXPECT_EQ(ChatTemplate({source, {}}).render(kParts), "<one><two>") << source;
  }
}

TEST(ChatTemplate, AnErrorLeavesTheNextRequestAlone) {
  const ChatTemplate chat({"{{ raise_exception('no: ' + messages[0].content) }}", {}});
  EXPECT_THAT(error_of(chat), HasSubstr("no: hello"));
  EXPECT_THAT(error_of(chat, R"([{"role":"user","content":"again"}])"), HasSubstr("no: again"));
}

// `chat` is of no use to any request, each time it is asked, and says why.
void expect_unusable(const ChatTemplate& chat, const std::string& why) {
  for (int request = 0; request < 2; ++request) {
    EXPECT_THAT([&] { return chat.render(kHello); },
                testing::ThrowsMessage<ChatTemplateUnusable>(HasSubstr(why)));
  }
}

TEST(ChatTemplate, ATemplateThatDoesNotCompileIsOfNoUse) {
  expect_unusable(ChatTemplate({"{% for %}", {}}), "does not compile");
  expect_unusable(ChatTemplate({"{% \x1b[31m %}", {}}), "does not compile");
  EXPECT_EQ(error_of(ChatTemplate({"{% \x1b[31m %}", {}})).find('\x1b'), std::string::npos);
}

TEST(ChatTemplate, ARunawayLoopIsStoppedInTime) {
  const ChatTemplate chat(
      {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", {}},
      {.render_time = 300ms});
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(error_of(chat), HasSubstr("ran for more than 0.3 s"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);
}

// The one child process of this program.
pid_t child_process() {
  std::ifstream children("/proc/self/task/" + std::to_string(::getpid()) + "/children");
  pid_t child = -1;
  children >> child;
  return child;
}

TEST(ChatTemplate, AProcessThatDoesNotAnswerIsKilledAndReplaced) {
  const ChatTemplate chat({"fine", {}}, {.render_time = 100ms});
  EXPECT_EQ(chat.render(kHello), "fine");
  const pid_t child = child_process();
  ASSERT_GT(child, 0);
  ASSERT_EQ(::kill(child, SIGSTOP), 0);
  EXPECT_THAT(error_of(chat), HasSubstr("was stopped"));
  EXPECT_EQ(chat.render(kHello), "fine");
  EXPECT_NE(child_process(), child);
}

TEST(ChatTemplate, AProcessThatDiesIsReplaced) {
  const ChatTemplate chat({"fine", {}});
  EXPECT_EQ(chat.render(kHello), "fine");
  ASSERT_EQ(::kill(child_process(), SIGKILL), 0);
  EXPECT_THAT(error_of(chat), HasSubstr("ended unexpectedly"));
  EXPECT_EQ(chat.render(kHello), "fine");
}

// A line of /proc/PID/limits holds the limit in force and the highest that may be set.
TEST(ChatTemplate, TheProcessCanOpenAndWriteNothing) {
  const ChatTemplate chat({"fine", {}});
  EXPECT_EQ(chat.render(kHello), "fine");
  std::ifstream file("/proc/" + std::to_string(child_process()) + "/limits");
  const std::string limits(std::istreambuf_iterator<char>(file), {});
  for (const char* line : {"Max open files +3 +3 ", "Max file size +0 +0 ", "Max processes +0 +0 ",
                           "Max core file size +0 +0 "}) {
    EXPECT_THAT(limits, ContainsRegex(line));
  }
}

TEST(ChatTemplate, NoProcessOutlivesItsTemplate) {
  { EXPECT_EQ(ChatTemplate({"fine", {}}).render(kHello), "fine"); }
  EXPECT_EQ(child_process(), -1);
}

TEST(ChatTemplate, ATemplateThatTakesForeverToCompileIsAnError) {
  // Jinja2 computes constants when it compiles.
  const ChatTemplate chat({"{{ (7 ** (9 ** 8)) % 10 }}", {}}, {.render_time = 100ms});
  expect_unusable(chat, "took more than 0.1 s to compile");
}

TEST(ChatTemplate, OutputIsLimited) {
  const ChatTemplate endless({"{% for a in range(9999) %}{{ 'word ' * 100 }}{% endfor %}", {}},
                             {.output_bytes = 1000});
  EXPECT_THAT(error_of(endless), HasSubstr("more than 1000 bytes"));
  const ChatTemplate huge({"{{ 'x' * 9999999999 }}", {}});
  EXPECT_THAT(error_of(huge), HasSubstr("memory"));
}

TEST(ChatTemplate, AMissingPythonIsNamed) {
  const TemporaryFolder empty;
  const WithEnvironment path("PATH", empty.path().c_str());
  expect_unusable(ChatTemplate({"x", {}}), "python3");
}

TEST(ChatTemplate, AMissingJinja2IsNamed) {
  const TemporaryFolder folder;
  folder.write("jinja2.py", "raise ImportError('hidden by a test')\n");
  const WithEnvironment path("PYTHONPATH", folder.path().c_str());
  expect_unusable(ChatTemplate({"x", {}}), "no jinja2");
}

TEST(ChatTemplate, ModulesInTheCurrentFolderAreNotTaken) {
  const TemporaryFolder folder;
  folder.write("json.py", "raise RuntimeError('the wrong json')\n");
  const std::filesystem::path old = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  EXPECT_EQ(ChatTemplate({"ok", {}}).render(kHello), "ok");
  std::filesystem::current_path(old);
}

TEST(ChatTemplate, WhatIsNoMessageListIsRefused) {
  const ChatTemplate chat({"x", {}});
  EXPECT_THAT(error_of(chat, "{}"), HasSubstr("must be an array"));
  EXPECT_THAT(error_of(chat, R"([], "messages": [])"), HasSubstr("JSON"));
}

TEST(ChatTemplateSource, AFolderGivesTheJinjaFileBeforeTheConfig) {
  const TemporaryFolder folder;
  EXPECT_FALSE(load_chat_template(folder.path()));
  folder.write(
      "tokenizer_config.json",
      R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "config"})");
  EXPECT_EQ(load_chat_template(folder.path())->text, "config");
  EXPECT_EQ(load_chat_template(folder.path())->special_tokens.at("bos_token"), "<s>");
  folder.write("chat_template.jinja", "jinja");
  EXPECT_EQ(load_chat_template(folder.path())->text, "jinja");
  folder.write("mine", "override");
  EXPECT_EQ(load_chat_template(folder.path(), folder.path() / "mine")->text, "override");
  EXPECT_THROW(load_chat_template(folder.path(), folder.path() / "none"), UserError);
}

TEST(ChatTemplateSource, ALengthThatNoIntegerHoldsIsNoObstacle) {
  const TemporaryFolder folder;
  folder.write("tokenizer_config.json",
               R"({"chat_template": "t", "model_max_length": 1000000000000000019884624838656})");
  EXPECT_EQ(load_chat_template(folder.path())->text, "t");
}

TEST(ChatTemplateSource, OfNamedTemplatesTheDefaultIsTaken) {
  const TemporaryFolder folder;
  folder.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "rag", "template": "a"}, {"name": "default", "template": "b"}]})");
  EXPECT_EQ(load_chat_template(folder.path())->text, "b");
  folder.write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "a"}]})");
  EXPECT_THROW(load_chat_template(folder.path()), UserError);
}

TEST(ChatTemplateSource, AGgufFileGivesItsTemplateAndTokens) {
  GgufTokenizerData data;
  EXPECT_FALSE(load_chat_template(data));
  data.chat_template = "{{ bos_token }}{{ messages[0].content }}";
  data.tokens = {"<unk>", "<s>"};
  data.bos_id = 1;
  EXPECT_EQ(ChatTemplate(*load_chat_template(data)).render(kHello), "<s>hello");
}

}  // namespace
}  // namespace millrace
