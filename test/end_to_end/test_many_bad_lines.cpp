// Ten thousand prompts of which one in a hundred is no prompt: each line is accounted for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "test/end_to_end/interrupted_job.hpp"

namespace millrace::test {
namespace {

using nlohmann::json;

std::string many_ids(int count) {
  std::string ids = "5";
  for (int i = 1; i < count; ++i) ids += ",5";
  return "{\"prompt\": [" + ids + "]}";
}

const Strings bad_lines = {
    R"({"prompt": )",
    R"({"prompt": [5]} trailing)",
    "[1, 2]",
    "null",
    "\"text\"",
    "",
    "   ",
    std::string(3, '\0'),
    "{}",
    R"({"prompt": ""})",
    R"({"prompt": []})",
    R"({"prompt": [400]})",
    R"({"prompt": [-1]})",
    R"({"prompt": [5.5]})",
    R"({"prompt": [99999999999999999999]})",
    R"({"prompt": 5})",
    R"({"prompt": [5], "messages": []})",
    R"({"messages": "hello"})",
    R"({"prompt": [5], "prompt": [6]})",
    R"({"prompt": [5], "temprature": 1})",
    R"({"prompt": [5], "temperature": -1})",
    R"({"prompt": [5], "temperature": 1e999})",
    R"({"prompt": [5], "top_p": 2})",
    R"({"prompt": [5], "top_k": -7})",
    R"({"prompt": [5], "max_tokens": 0})",
    R"({"prompt": [5], "max_tokens": -9223372036854775808})",
    R"({"prompt": [5], "n": 1000000000})",
    R"({"prompt": [5], "logprobs": 5000})",
    R"({"prompt": [5], "stop": [""]})",
    R"({"prompt": [5], "stop_token_ids": [387]})",
    R"({"prompt": [5], "logit_bias": {"5": 1000}})",
    R"({"prompt": [5], "seed": -1})",
    R"({"prompt": [5], "repetition_penalty": 0})",
    "{\"prompt\": \"\xff\xfe\"}",
    "{\"prompt\": \"\xed\xa0\x80\"}",
    "{\"prompt\": \"a\xc3\"}",
    R"({"prompt": "\ud800"})",
    std::string(20000, '['),
    std::string(20000, '{'),
    many_ids(256),
    many_ids(100000),
};

void expect_all_accounted_for(int ranks, const Strings& grid) {
  constexpr int count = 10000;
  const SmallJob job;
  std::string text;
  std::set<int> bad;
  for (int i = 0; i < count; ++i) {
    if (i % 100 == 37) {
      bad.insert(i);
      text += bad_lines[static_cast<std::size_t>(i / 100) % bad_lines.size()];
    } else {
      text += json{{"prompt", {5 + i % 300, 9}}, {"max_tokens", 1 + i % 4}}.dump();
    }
    text += '\n';
  }
  // One line beyond the 64 MiB that a line may have, and an end without a newline.
  text += std::string((64 << 20) + 1, 'x') + "\n{\"prompt\": [5, 6], \"max_tokens\": 2}";
  bad.insert(count);
  Strings flags = {"--prompts=" + job.workspace().write("bad.jsonl", text), "--temperature=0",
                   "--max-num-seqs=64"};
  flags.insert(flags.end(), grid.begin(), grid.end());
  const Outcome outcome = job.run_to("o.jsonl", flags, ranks);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  const std::vector<json> lines = json_lines(job / "o.jsonl");
  ASSERT_EQ(lines.size(), static_cast<std::size_t>(count + 2));
  for (int i = 0; i < count + 2; ++i) {
    const json& line = lines[static_cast<std::size_t>(i)];
    ASSERT_EQ(line["index"], i);
    ASSERT_EQ(line["error"].is_null(), !bad.contains(i)) << line.dump().substr(0, 500);
    if (bad.contains(i)) {
      EXPECT_EQ(line["finish_reason"], "error");
      EXPECT_TRUE(line["token_ids"].is_null());
    } else {
      const int wanted = i < count ? 1 + i % 4 : 2;
      EXPECT_LE(line["token_ids"].size(), static_cast<std::size_t>(wanted));
      EXPECT_GE(line["token_ids"].size(), 1U);
    }
  }
  EXPECT_THAT(outcome.errors,
              testing::HasSubstr("10,002 requests (" + std::to_string(bad.size()) + " failed)"));
}

TEST(ManyBadLines, AreAllAccountedForOnOneRank) { expect_all_accounted_for(0, {}); }
TEST(ManyBadLines, AreAllAccountedForOnTwoReplicas) {
  expect_all_accounted_for(2, {"--data-parallel-size=2"});
}

}  // namespace
}  // namespace millrace::test
