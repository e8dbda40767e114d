#include "core/io/json_lines.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "core/batch/request.hpp"

namespace millrace {
namespace {

std::string line(const FinishedRequest& request, bool prompt_token_ids = false) {
  std::string out;
  append_json_line(out, 7, request, prompt_token_ids);
  return out;
}

FinishedRequest answered() {
  FinishedRequest request;
  request.prompt_token_ids = {5, 6, 7};
  Completion completion;
  completion.text = "Hi";
  completion.token_ids = {1, 2};
  completion.finish_reason = FinishReason::length;
  request.completions.push_back(completion);
  return request;
}

TEST(JsonLines, OneCompletionStandsInTheLine) {
  EXPECT_EQ(line(answered()),
            R"({"index":7,"id":null,"text":"Hi","token_ids":[1,2],"finish_reason":"length",)"
            R"("stop_reason":null,"prompt_tokens":3,"error":null})"
            "\n");
}

TEST(JsonLines, SeveralCompletionsStandInOutputs) {
  FinishedRequest request = answered();
  request.id = "q\"1";
  request.completions.push_back({1, "Yo", {3}, FinishReason::stop, "END", {}});
  EXPECT_EQ(
      line(request, true),
      R"({"index":7,"id":"q\"1","outputs":[{"text":"Hi","token_ids":[1,2],"finish_reason":"length",)"
      R"("stop_reason":null},{"text":"Yo","token_ids":[3],"finish_reason":"stop",)"
      R"("stop_reason":"END"}],"prompt_tokens":3,"prompt_token_ids":[5,6,7],"error":null})"
      "\n");
}

TEST(JsonLines, LogprobsAreThereWhenAskedFor) {
  FinishedRequest request = answered();
  request.completions[0].logprobs = {
      {1, -0.1F, 1, {{1, -0.1F}, {9, -2.5F}}},
      {2, -std::numeric_limits<float>::infinity(), 3, {}},
  };
  EXPECT_NE(line(request).find(
                R"("logprobs":[{"token_id":1,"logprob":-0.1,"rank":1,"top":[{"token_id":1,)"
                R"("logprob":-0.1},{"token_id":9,"logprob":-2.5}]},{"token_id":2,"logprob":null,)"
                R"("rank":3,"top":[]}])"),
            std::string::npos)
      << line(request);
}

TEST(JsonLines, AFailedLineSaysWhy) {
  FinishedRequest request;
  request.error = "unknown field \"x\"";
  EXPECT_EQ(line(request),
            R"({"index":7,"id":null,"text":null,"token_ids":null,"finish_reason":"error",)"
            R"("stop_reason":null,"prompt_tokens":0,"error":"unknown field \"x\""})"
            "\n");
}

TEST(JsonLines, StringsAreEscapedAndRepaired) {
  std::string out;
  append_json_string(out, std::string_view("a\0\x1f\"\\\n\r\t/\x7f\xff é", 14));
  EXPECT_EQ(out, "\"a\\u0000\\u001f\\\"\\\\\\n\\r\\t/\x7f\uFFFD é\"");
}

}  // namespace
}  // namespace millrace
