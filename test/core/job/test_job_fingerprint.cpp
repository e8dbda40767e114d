// Every flag of `millrace` says whether a job may go on with another value, and the fingerprint
// does what it says.
#include "core/job/job_fingerprint.hpp"

#include <gmock/gmock.h>

#include <fstream>
#include <map>

#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using Change = Flag::Change;
namespace fs = std::filesystem;

const std::string models = MILLRACE_TEST_DATA "/models/";

class JobFingerprint : public testing::Test {
 protected:
  JobFingerprint() {
    for (const char* name : {"p.jsonl", "other.jsonl", "run.jinja"}) {
      std::ofstream(folder_ / name) << name << "\n";
    }
  }

  // Another value for each flag than the one it has in `given`. A new flag needs a row.
  std::map<std::string, std::string> other_values() const {
    return {
        {"model", models + "llama-f16"},
        {"tokenizer", models + "qwen2"},
        {"load-format", "dummy"},
        {"load-strategy", "broadcast"},
        {"dtype", "float16"},
        {"quantization", "fp8"},
        {"kv-cache-dtype", "float16"},
        {"max-model-len", "99"},
        {"prompts", folder_ / "other.jsonl"},
        {"chat-template", folder_ / "run.jinja"},
        {"shard", "1/3"},
        {"output", folder_ / "other.h5"},
        {"overwrite", "true"},
        {"output-mode", "640"},
        {"return-prompt-token-ids", "true"},
        {"tensor-parallel-size", "1"},
        {"pipeline-parallel-size", "1"},
        {"data-parallel-size", "1"},
        {"pipeline-partition", "5"},
        {"require-transport", "ib"},
        {"device", "cpu"},
        {"max-num-seqs", "7"},
        {"max-num-batched-tokens", "999"},
        {"block-size", "8"},
        {"kv-cache-memory-bytes", "64MiB"},
        {"gpu-memory-utilization", "0.5"},
        {"nvls", "true"},
        {"generation-config", "none"},
        {"temperature", "0.5"},
        {"top-k", "5"},
        {"top-p", "0.5"},
        {"min-p", "0.25"},
        {"repetition-penalty", "1.5"},
        {"presence-penalty", "0.5"},
        {"frequency-penalty", "0.5"},
        {"max-tokens", "7"},
        {"min-tokens", "2"},
        {"stop", "x"},
        {"stop-token-ids", "3,4"},
        {"include-stop-str-in-output", "true"},
        {"skip-special-tokens", "false"},
        {"ignore-eos", "true"},
        {"logprobs", "2"},
        {"n", "2"},
        {"seed", "4"},
        {"resume", "true"},
        {"deep", "false"},  // true adds the bytes to be compared; test_resume has it
        {"checkpoint-interval", "1"},
        {"time-limit", "5400"},
        {"grace-period", "7"},
        {"watchdog", "77"},
        {"progress-interval", "0"},
        {"log-level", "debug"},
        {"log-prompts", "true"},
    };
  }

  Fingerprint fingerprint(const std::string& changed = "", const std::string& value = "") const {
    std::map<std::string, std::string> given = {{"model", models + "llama-tied-bias"},
                                                {"prompts", folder_ / "p.jsonl"},
                                                {"output", folder_ / "o.jsonl"},
                                                {"max-model-len", "128"},
                                                {"kv-cache-dtype", "float32"}};
    if (!changed.empty()) given[changed] = value;
    std::vector<std::string> arguments;
    for (const auto& [flag, text] : given) arguments.push_back("--" + flag + "=" + text);
    const RunConfig config = parse_run_config(arguments);
    const Comm alone;
    return fingerprint_job(alone, config, plan_job(alone, config), {});
  }

  TemporaryFolder folder_;
};

TEST_F(JobFingerprint, EveryFlagDecidesWhetherItMayChange) {
  RunConfig config;
  for (const Flag& flag : run_flags(config)) {
    EXPECT_NE(flag.change, Change::undecided) << "--" << flag.name;
  }
}

TEST_F(JobFingerprint, AChangedFlagIsNamedWhereItDecidesTokensAndOnlyThere) {
  const Fingerprint was = fingerprint();
  const auto others = other_values();
  RunConfig config;
  for (const Flag& flag : run_flags(config)) {
    SCOPED_TRACE("--" + flag.name);
    const auto other = others.find(flag.name);
    ASSERT_NE(other, others.end()) << "has no other value in this test";
    const auto found = differences(was, fingerprint(flag.name, other->second));
    switch (flag.change) {
      case Change::refused:
        EXPECT_THAT(found, Contains(StartsWith("--" + flag.name + " was ")));
        // Made-up weights are not those of a file.
        EXPECT_EQ(found.size(), flag.name == "load-format" ? 2U : 1U)
            << testing::PrintToString(found);
        break;
      case Change::files:
        EXPECT_THAT(found, Not(IsEmpty()));
        break;
      default:
        EXPECT_THAT(found, IsEmpty());
    }
  }
  EXPECT_EQ(others.size(), run_flags(config).size());
}

}  // namespace
}  // namespace millrace
