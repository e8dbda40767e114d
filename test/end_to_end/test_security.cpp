// What SECURITY.md promises of a whole job.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "test/end_to_end/program.hpp"

namespace millrace::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Strings = std::vector<std::string>;
namespace fs = std::filesystem;

constexpr const char* secret = "xyzzy-plugh";

// Sound prompts and every kind of bad one, each with the secret in it.
std::string prompts_with_secrets() {
  std::string lines;
  for (const char* line : {
           R"({"prompt": "the word is SECRET", "id": "SECRET"})",
           R"({"messages": [{"role": "user", "content": "the word is SECRET"}]})",
           R"({"messages": [{"role": "SECRET", "content": "the word is SECRET"}]})",
           R"({"prompt": "the word is SECRET", "SECRET": 1})",
           R"({"prompt": "the word is SECRET", "temperature": "SECRET"})",
           R"({"prompt": "the word is SECRET", "stop": ["SECRET"], "seed": "SECRET"})",
           R"({"prompt": ["SECRET"]})",
           R"({"prompt": "the word is SECRET")",
           "SECRET",
           "\"SECRET \xff\"",
       }) {
    std::string text = line;
    for (auto at = text.find("SECRET"); at != std::string::npos; at = text.find("SECRET")) {
      text.replace(at, 6, secret);
    }
    lines += text + "\n";
  }
  return lines;
}

struct Job {
  Workspace work;
  Strings arguments = {
      "--model=" + fixture("llama-tied-bias").string(),
      "--prompts=" + work.write("p.jsonl", prompts_with_secrets()),
      "--output=" + (work / "o.jsonl"),
      "--max-tokens=4",
      "--max-model-len=128",
      "--log-level=debug",
      "--chat-template=" +
          work.write("chat.jinja",
                     "{% if messages[0].role == 'user' %}{{ messages[0].content }}"
                     "{% else %}{{ raise_exception(messages[0].role) }}{% endif %}")};

  Outcome start(int ranks, const Strings& more = {}) const {
    Strings all = arguments;
    all.insert(all.end(), more.begin(), more.end());
    return run({.ranks = ranks, .arguments = all});
  }
};

TEST(Security, NoTextOfAPromptOrAnAnswerIsLoggedUnlessAskedFor) {
  for (const int ranks : {0, 2}) {
    const Job job;
    const Outcome outcome = job.start(ranks);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    EXPECT_THAT(outcome.errors + outcome.output, Not(HasSubstr(secret)));
    EXPECT_THAT(read_file(job.work / "o.jsonl"), HasSubstr(secret));
  }
  const Job job;
  const Outcome outcome = job.start(2, {"--log-prompts", "-dp=2"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.errors, HasSubstr(secret));
  EXPECT_THAT(outcome.errors, HasSubstr("answer to byte 0, 4 tokens, length: \""));
}

TEST(Security, ResultsAreForTheirOwnerAlone) {
  const mode_t before = ::umask(0);
  const Job job;
  const Outcome outcome = job.start(0);
  ::umask(before);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  for (const char* name : {"o.jsonl", "o.jsonl.report.h5"}) {
    struct stat status {};
    ASSERT_EQ(::stat((job.work / name).c_str(), &status), 0) << name;
    EXPECT_EQ(status.st_mode & 0777U, 0600U) << name;
  }
}

// In a folder that others may write, a link that waits where the result is about to be written.
TEST(Security, ALinkInTheWayOfTheResultIsNotFollowed) {
  const Job job;
  const std::string victim = job.work.write("victim", "precious");
  fs::create_symlink(victim, job.work / "o.jsonl.partial");
  job.start(0);
  EXPECT_EQ(read_file(victim), "precious");
}

}  // namespace
}  // namespace millrace::test
