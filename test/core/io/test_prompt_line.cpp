#include "core/io/prompt_line.hpp"

#include <gmock/gmock.h>

#include "core/batch/request.hpp"
#include "core/text/chat_template.hpp"
#include "core/text/tokenizer.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

class PromptLine : public testing::Test {
 protected:
  static const Tokenizer& tokenizer() {
    static const Tokenizer tokenizer = load_tokenizer(MILLRACE_TEST_DATA "/models/gpt2");
    return tokenizer;
  }

  PromptLineParser parser(PromptFormat format) const {
    return {{format, max_model_len_, vocab_size_}, defaults_, tokenizer(), render_chat_};
  }
  Request json(std::string_view line) const {
    return parser(PromptFormat::json_lines).parse(123, line);
  }
  Request text(std::string_view line) const { return parser(PromptFormat::text).parse(123, line); }

  std::int32_t max_model_len_ = 1000;
  std::int32_t vocab_size_ = static_cast<std::int32_t>(tokenizer().vocab_size());
  SamplingParams defaults_;
  RenderChat render_chat_;
};

TEST_F(PromptLine, OfTextIsThePrompt) {
  const Request request = text("Hello, {\"prompt\": 1}");
  EXPECT_EQ(request.error, "");
  EXPECT_EQ(request.key.offset, 123);
  EXPECT_EQ(request.id, "");
  EXPECT_EQ(request.prompt_tokens, tokenizer().encode("Hello, {\"prompt\": 1}", true));
  EXPECT_EQ(request.sampling, defaults_);
}

TEST_F(PromptLine, ToleratesACarriageReturn) {
  EXPECT_EQ(text("Hello\r").prompt_tokens, text("Hello").prompt_tokens);
  EXPECT_EQ(json("{\"prompt\":\"Hello\"}\r").prompt_tokens, text("Hello").prompt_tokens);
  EXPECT_NE(text("Hello\r\r").prompt_tokens, text("Hello").prompt_tokens);
}

TEST_F(PromptLine, ThatIsEmptyIsAnError) {
  EXPECT_EQ(text("").error, "the line is empty");
  EXPECT_EQ(text("\r").error, "the line is empty");
  EXPECT_EQ(json("").error, "the line is empty");
  EXPECT_EQ(json(" \t ").error, "the line is empty");
  EXPECT_EQ(json(R"({"prompt": ""})").error, "the prompt is empty");
  EXPECT_EQ(json(R"({"prompt": []})").error, "the prompt has no tokens");
}

TEST_F(PromptLine, MayHoldNulAndEveryEscape) {
  EXPECT_EQ(text(std::string_view("a\0b", 3)).prompt_tokens,
            tokenizer().encode(std::string_view("a\0b", 3), true));
  EXPECT_EQ(json(R"({"prompt": "a\u0000b\n\"\ud83d\ude42"})").prompt_tokens,
            tokenizer().encode(std::string_view("a\0b\n\"\xF0\x9F\x99\x82", 9), true));
}

TEST_F(PromptLine, TakesTokenIds) {
  const Request request = json(R"({"prompt": [5, 0, 7]})");
  EXPECT_EQ(request.error, "");
  EXPECT_THAT(request.prompt_tokens, ElementsAre(5, 0, 7));
}

TEST_F(PromptLine, RendersMessages) {
  std::string messages;
  std::string variables;
  bool generation = true;
  render_chat_ = [&](std::string_view json, bool add_generation_prompt, std::string_view kwargs) {
    messages = json;
    generation = add_generation_prompt;
    variables = kwargs;
    return std::string("user: hi");
  };
  EXPECT_EQ(json(R"({"messages": [{"role": "user", "content": "hi"}, 5 ]})").prompt_tokens,
            tokenizer().encode("user: hi", false));
  EXPECT_EQ(messages, R"([{"role": "user", "content": "hi"}, 5 ])");
  EXPECT_TRUE(generation);
  EXPECT_EQ(variables, "");
  json(R"({"chat_template_kwargs": {"a": [1]}, "add_generation_prompt": false, "messages": [1]})");
  EXPECT_EQ(variables, R"({"a": [1]})");
  EXPECT_FALSE(generation);
  render_chat_ = [](auto&&...) -> std::string { throw UserError("roles must alternate"); };
  EXPECT_EQ(json(R"({"messages": [1]})").error, "roles must alternate");
  render_chat_ = [](auto&&...) -> std::string { throw ChatTemplateUnusable("no jinja2"); };
  EXPECT_THROW(json(R"({"messages": [1]})"), ChatTemplateUnusable);
  EXPECT_EQ(json(R"({"messages": [ ]})").error, "messages is empty");
  EXPECT_EQ(json(R"({"messages": {"role": "user"}})").error,
            "messages is an object, but must be an array");
}

TEST_F(PromptLine, TakesAnIdThatIsTextOrAWholeNumber) {
  EXPECT_EQ(json(R"({"id": "a\"b", "prompt": "x"})").id, "a\"b");
  EXPECT_EQ(json(R"({"id": -7, "prompt": "x"})").id, "-7");
  EXPECT_THAT(json(R"({"id": 1.5, "prompt": "x"})").error, HasSubstr("id is 1.5"));
  EXPECT_EQ(json(R"({"id": {"a": 1}, "prompt": "x"})").error,
            "id is an object, but must be a string or a whole number");
  EXPECT_THAT(json(R"({"id": [1], "prompt": "x"})").error, StartsWith("id is an array"));
  EXPECT_EQ(json(R"({"id": "kept", "prompt": "x", "tempature": 1})").id, "kept");
}

TEST_F(PromptLine, SetsEverySamplingField) {
  const Request request = json(R"({
    "prompt": "x", "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05,
    "repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": -0.3,
    "logit_bias": {"5": -100, "6": 1.5}, "seed": 18446744073709551615, "max_tokens": 99,
    "min_tokens": 3, "stop": ["\n\n", "END"], "stop_token_ids": [1, 2], "ignore_eos": true,
    "include_stop_str_in_output": true, "skip_special_tokens": false, "logprobs": 5, "n": 4})");
  EXPECT_EQ(request.error, "");
  const SamplingParams& sampling = request.sampling;
  EXPECT_FLOAT_EQ(sampling.temperature, 0.5F);
  EXPECT_FLOAT_EQ(sampling.top_p, 0.9F);
  EXPECT_EQ(sampling.top_k, 40);
  EXPECT_FLOAT_EQ(sampling.min_p, 0.05F);
  EXPECT_FLOAT_EQ(sampling.repetition_penalty, 1.1F);
  EXPECT_FLOAT_EQ(sampling.presence_penalty, 0.2F);
  EXPECT_FLOAT_EQ(sampling.frequency_penalty, -0.3F);
  EXPECT_THAT(sampling.logit_bias, ElementsAre(std::pair(5, -100.0F), std::pair(6, 1.5F)));
  EXPECT_EQ(sampling.seed, 18446744073709551615U);
  EXPECT_EQ(sampling.max_tokens, 99);
  EXPECT_EQ(sampling.min_tokens, 3);
  EXPECT_THAT(sampling.stop, ElementsAre("\n\n", "END"));
  EXPECT_THAT(sampling.stop_token_ids, ElementsAre(1, 2));
  EXPECT_TRUE(sampling.ignore_eos);
  EXPECT_TRUE(sampling.include_stop_str_in_output);
  EXPECT_FALSE(sampling.skip_special_tokens);
  EXPECT_EQ(sampling.logprobs, 5);
  EXPECT_EQ(sampling.n, 4);
}

TEST_F(PromptLine, HasTheJobsDefaultsForWhatIsNotGivenOrNull) {
  defaults_.temperature = 0.25F;
  defaults_.max_tokens = 77;
  defaults_.stop = {"a", "b"};
  const Request request =
      json(R"({"prompt": "x", "temperature": null, "seed": null, "stop": "c"})");
  EXPECT_EQ(request.error, "");
  EXPECT_FLOAT_EQ(request.sampling.temperature, 0.25F);
  EXPECT_EQ(request.sampling.max_tokens, 77);
  EXPECT_EQ(request.sampling.seed, std::nullopt);
  EXPECT_THAT(request.sampling.stop, ElementsAre("c")) << "replaces, does not add";
}

struct BadLine {
  const char* line;
  const char* error;
};

TEST_F(PromptLine, ThatIsBadSaysWhatIsWrong) {
  const BadLine lines[] = {
      {R"({"prompt": "x", "tempature": 1})", R"(unknown field "tempature")"},
      {R"({"prompt": "x", "n": 2, "n": 3})", "the field n is given twice"},
      {R"({"temperature": 1})", R"(neither "prompt" nor "messages")"},
      {R"({"prompt": "x", "messages": [1]})", R"(both "prompt" and "messages")"},
      {R"({"messages": [{"role": "user", "content": "x"}]})", "the model has none"},
      {R"({"prompt": 5})", "prompt is 5, but must be a string or an array of token ids"},
      {R"({"prompt": [1, "a"]})", R"(prompt is "a", but must be a whole number)"},
      {R"({"prompt": [1, 2.5]})", "prompt is 2.5, but must be a whole number"},
      {R"({"prompt": [99999999]})", "the prompt has the token id 99999999"},
      {R"({"prompt": [-1]})", "the prompt has the token id -1"},
      {R"({"prompt": "x", "stop_token_ids": [99999999]})",
       "stop_token_ids has the token id 99999999"},
      {R"({"prompt": "x", "logit_bias": {"99999999": 1}})", "logit_bias has the token id 99999999"},
      {R"({"prompt": "x", "logit_bias": {"five": 1}})", R"(has the key "five")"},
      {R"({"prompt": "x", "logit_bias": {"5": 1, "6": 1, "05": 2}})",
       "logit_bias has the token id 5 twice"},
      {R"({"prompt": "x", "temperature": "hot"})", R"(temperature is "hot", but must be a number)"},
      {R"({"prompt": "x", "temperature": -1})", "temperature is -1"},
      {R"({"prompt": "x", "temperature": 1e400})", ""},
      {R"({"prompt": "x", "temperature": 1e300})",
       "temperature is 1e300, but must be a number that a float holds"},
      {R"({"prompt": "x", "top_p": 0})", "top_p is 0"},
      {R"({"prompt": "x", "top_p": [1]})", "top_p is an array, but must be a number"},
      {R"({"prompt": "x", "max_tokens": 0})", "max_tokens is 0"},
      {R"({"prompt": "x", "max_tokens": 1.5})", "max_tokens is 1.5, but must be a whole number"},
      {R"({"prompt": "x", "max_tokens": 4294967296})", "max_tokens is 4294967296"},
      {R"({"prompt": "x", "seed": -1})", "seed is -1, but must be a whole number of at least 0"},
      {R"({"prompt": "x", "ignore_eos": 1})", "ignore_eos is 1, but must be true or false"},
      {R"({"prompt": "x", "stop": [1]})", "stop is 1, but must be a string"},
      {R"({"prompt": "x", "stop": {}})", "must be a string or an array of strings"},
      {R"({"prompt": "x", "chat_template_kwargs": []})", "must be an object"},
      {R"(["prompt"])", "not a JSON object"},
      {R"("prompt")", "not a JSON object"},
      {R"(prompt)", ""},
      {R"({"prompt": "x")", "invalid JSON: the line does not end where its object ends"},
      {R"({"prompt": "x"} more)", "invalid JSON: the line does not end where its object ends"},
      {R"({"prompt": "x"} {})", "something follows the object"},
      {R"({"prompt": "x"}})", ""},
      {R"({"prompt": "x",})", "invalid JSON"},
      {R"({"prompt": "\ud800"})", "invalid JSON"},
      {R"({"prompt": "\q"})", "invalid JSON"},
      {R"({"prompt": nul})", ""},
      {"{\"prompt\": \"a\tb\"}", "invalid JSON"},
      {"{\"prompt\": \"caf\xe9\"}", "invalid UTF-8 at byte 15 of the line"},
      {"{", "invalid JSON"},
      {R"({"\n\u001b[31m": 1})", R"(unknown field " ?[31m")"},
      {"\x01", ""},
  };
  for (const BadLine& bad : lines) {
    const Request request = json(bad.line);
    EXPECT_NE(request.error, "") << bad.line;
    EXPECT_THAT(request.error, HasSubstr(bad.error)) << bad.line;
    EXPECT_EQ(request.error.find('\n'), std::string::npos) << "one line";
    EXPECT_THAT(request.prompt_tokens, IsEmpty()) << bad.line;
    EXPECT_EQ(request.key.offset, 123);
  }
  EXPECT_EQ(text("ab\xff").error, "invalid UTF-8 at byte 2 of the line");
}

TEST_F(PromptLine, ErrorsQuoteOnlyTheBeginningOfSomethingLong) {
  const std::string giant(1 << 20, 'k');
  EXPECT_LT(json("{\"" + giant + "\": 1}").error.size(), 200U);
  EXPECT_LT(json("{\"prompt\": \"x\", \"temperature\": \"" + giant + "\"}").error.size(), 200U);
  render_chat_ = [&](auto&&...) -> std::string { throw UserError("\x1b" + giant); };
  EXPECT_THAT(json(R"({"messages": [1]})").error, StartsWith("?kkk"));
  EXPECT_LT(json(R"({"messages": [1]})").error.size(), 600U);
}

TEST_F(PromptLine, ThatIsTooLongForTheModelNamesBothNumbers) {
  max_model_len_ = 3;
  EXPECT_EQ(json(R"({"prompt": [1, 2]})").error, "");
  const std::string error = json(R"({"prompt": [1, 2, 3]})").error;
  EXPECT_THAT(error, StartsWith("the prompt has 3 tokens"));
  EXPECT_THAT(error, HasSubstr("maximum model length is 3"));
  EXPECT_EQ(PromptLineParser::too_long(5, 67108864).error,
            "the line is longer than 67,108,864 bytes");
}

TEST_F(PromptLine, TheParserGoesOnAfterBadAndGiantLines) {
  max_model_len_ = 1 << 24;
  PromptLineParser lines = parser(PromptFormat::json_lines);
  const std::string giant = R"({"prompt": [)" + std::string(3 << 20, ' ') + R"(5]})";
  for (int round = 0; round < 3; ++round) {
    EXPECT_NE(lines.parse(0, R"({"prompt": "x)").error, "");
    EXPECT_THAT(lines.parse(0, giant).prompt_tokens, ElementsAre(5));
    EXPECT_THAT(lines.parse(0, R"({"prompt": [6]})").prompt_tokens, ElementsAre(6));
  }
}

TEST(PromptFormat, IsReadFromTheName) {
  EXPECT_EQ(prompt_format("a/b.txt"), PromptFormat::text);
  EXPECT_EQ(prompt_format("a.jsonl"), PromptFormat::json_lines);
  EXPECT_THROW(prompt_format("a.json"), UserError);
}

}  // namespace
}  // namespace millrace
