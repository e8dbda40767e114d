// Every mistake gets one line that names it and exit code 2, on one rank and on four, and nobody
// hangs. A bad prompt line is that line's error, and the job goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>

#include "test/end_to_end/program.hpp"

namespace millrace::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using Strings = std::vector<std::string>;
namespace fs = std::filesystem;

// A sound model and prompts in a folder of their own, to be broken, and the arguments to run them.
struct Job {
  static constexpr const char* prompts = "{\"prompt\": [5, 6, 7]}\n";
  Workspace work;
  Strings more;  // arguments that replace the default ones of the same name
  std::map<std::string, std::string> flags;

  Job() {
    fs::copy(fixture("llama-tied-bias"), work / "model");
    work.write("p.jsonl", prompts);
    flags = {{"--model", work / "model"},
             {"--prompts", work / "p.jsonl"},
             {"--output", work / "o.jsonl"},
             {"--max-tokens", "2"}};
  }
  Strings arguments() const {
    Strings all;
    for (const auto& [flag, value] : flags) {
      all.push_back(flag + "=" + value);
    }
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  // Changes fields of the model's config.json; null removes one.
  void configure(const json& changes) const {
    const fs::path path = fs::path(work / "model") / "config.json";
    json config = json::parse(read_file(path));
    config.merge_patch(changes);
    std::ofstream(path) << config.dump();
  }
  std::string file(const std::string& name) const { return fs::path(work / "model") / name; }
};

// Overwrites bytes of a file.
void patch(const std::string& path, std::streamoff offset, const std::string& bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(offset);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string little_endian(std::uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes += static_cast<char>(value >> (8 * i));
  }
  return bytes;
}

// A configuration with no weights beside it, for --load-format dummy.
void use_dummy(Job& job, const json& changes) {
  fs::remove(job.file("model.safetensors"));
  job.configure(changes);
  job.flags["--load-format"] = "dummy";
}

struct Mistake {
  std::string name;
  std::function<void(Job&)> make;
  Strings said;  // what the line must contain
};

void PrintTo(const Mistake& mistake, std::ostream* out) { *out << mistake.name; }

const std::vector<Mistake> mistakes = {
    {"MissingModel",
     [](Job& job) { job.flags["--model"] = "/nonexistent/model"; },
     {"/nonexistent/model"}},
    {"MissingWeights", [](Job& job) { fs::remove(job.file("model.safetensors")); }, {"model"}},
    {"TruncatedWeights",
     [](Job& job) {
       const std::string path = job.file("model.safetensors");
       fs::resize_file(path, fs::file_size(path) / 2);
     },
     {"model.safetensors"}},
    {"WrongTensorShape",
     [](Job& job) {
       job.configure({{"intermediate_size", 64}});
     },
     {"model.safetensors", "mlp"}},
    {"UnknownArchitecture",
     [](Job& job) {
       job.configure({{"architectures", {"PerceptronForCausalLM"}}, {"model_type", "perceptron"}});
     },
     {"config.json", "erceptron"}},
    {"UnsupportedQuantization",
     [](Job& job) {
       job.configure({{"quantization_config", {{"quant_method", "awq"}}}});
     },
     {"config.json", "awq"}},
    {"MalformedConfig",
     [](Job& job) { std::ofstream(job.file("config.json")) << "{\"a\": "; },
     {"config.json"}},
    {"ImpossibleConfig",
     [](Job& job) {
       job.configure({{"num_hidden_layers", -3}});
     },
     {"config.json", "num_hidden_layers", "-3"}},
    {"HugeSafetensorsHeader",
     [](Job& job) {
       patch(job.file("model.safetensors"), 0, little_endian(~std::uint64_t{0} / 2));
     },
     {"model.safetensors"}},
    {"NoSafetensorsHeader",
     [](Job& job) { patch(job.file("model.safetensors"), 8, "not json"); },
     {"model.safetensors"}},
    {"NoGguf",
     [](Job& job) {
       job.flags["--model"] = job.work.write("bad.gguf", "GGML0000000000000000000000");
     },
     {"bad.gguf"}},
    {"HugeGgufCounts",
     [](Job& job) {
       fs::copy_file(fixture("llama-gguf") / "model.gguf", job.work / "bad.gguf");
       job.flags["--model"] = job.work / "bad.gguf";
       patch(job.flags["--model"], 8, little_endian(~std::uint64_t{0}));
     },
     {"bad.gguf"}},
    {"TruncatedGguf",
     [](Job& job) {
       fs::copy_file(fixture("llama-gguf") / "model.gguf", job.work / "bad.gguf");
       fs::resize_file(job.work / "bad.gguf", fs::file_size(job.work / "bad.gguf") - 5000);
       job.flags["--model"] = job.work / "bad.gguf";
     },
     {"bad.gguf"}},
    {"UnsupportedTokenizer",
     [](Job& job) {
       std::ofstream(job.file("tokenizer.json"))
           << R"({"model": {"type": "Unigram", "vocab": []}})";
     },
     {"tokenizer.json", "Unigram"}},
    {"MissingTokenizer",
     [](Job& job) { job.flags["--tokenizer"] = "/nonexistent/tokenizer.json"; },
     {"--tokenizer", "/nonexistent/tokenizer.json"}},
    {"TokenizerOfSentencePiece",
     [](Job& job) { fs::rename(job.file("tokenizer.json"), job.file("tokenizer.model")); },
     {"tokenizer.model", "convert it to a tokenizer.json"}},
    {"TokenizerThatIsNone",
     [](Job& job) { job.flags["--tokenizer"] = job.work.write("words.json", "{}"); },
     {"--tokenizer", "words.json"}},
    {"MissingChatTemplate",
     [](Job& job) { job.flags["--chat-template"] = "/nonexistent/chat.jinja"; },
     {"--chat-template", "/nonexistent/chat.jinja"}},
    {"MoreTensorRanksThanHeads",
     [](Job& job) {
       use_dummy(job, {{"num_attention_heads", 2}, {"num_key_value_heads", 1}, {"head_dim", 8}});
       job.more = {"-tp", "4"};
     },
     {"tensor 4"}},
    {"WorldOfAnotherSize",
     [](Job& job) { job.more = {"-tp", "3", "-pp", "2", "-dp", "1"}; },
     {"data 1 x pipeline 2 x tensor 3"}},
    {"GridThatDoesNotDivide",
     [](Job& job) {
       job.more = {"-tp", "3"};
     },
     {"tensor 3"}},
    {"MoreStagesThanLayers",
     [](Job& job) {
       job.more = {"-pp", "7"};
     },
     {"pipeline 7"}},
    {"WrongPipelinePartition",
     [](Job& job) {
       job.more = {"--pipeline-partition", "9"};
     },
     {"9"}},
    {"ModelTooLarge",
     [](Job& job) {
       use_dummy(job, {{"hidden_size", 65536},
                       {"intermediate_size", 262144},
                       {"num_hidden_layers", 300},
                       {"num_attention_heads", 512},
                       {"num_key_value_heads", 64},
                       {"head_dim", 128}});
     },
     {"of weights", "GiB"}},
    {"CacheTooSmall",
     [](Job& job) { job.flags["--kv-cache-memory-bytes"] = "10KB"; },
     {"--max-model-len 256"}},
    {"LengthBeyondTheModel",
     [](Job& job) { job.flags["--max-model-len"] = "100k"; },
     {"--max-model-len", "100000", "256"}},
    {"MissingPrompts",
     [](Job& job) { job.flags["--prompts"] = "/nonexistent/p.jsonl"; },
     {"--prompts", "/nonexistent/p.jsonl", "No such file or directory"}},
    {"PromptsFromAPipe",
     [](Job& job) {
       job.flags["--prompts"] = job.work / "pipe.jsonl";
       ASSERT_EQ(::mkfifo(job.flags["--prompts"].c_str(), 0600), 0);
     },
     {"--prompts", "pipe.jsonl", "regular file"}},
    {"PromptsOfAnotherKind",
     [](Job& job) { job.flags["--prompts"] = job.work.write("p.csv", "a,b\n"); },
     {"p.csv"}},
    {"PromptsInUtf16",
     [](Job& job) {
       job.flags["--prompts"] = job.work.write("wide.txt", std::string("\xff\xfeh\0i\0\n\0", 8));
     },
     {"--prompts", "wide.txt", "UTF-16"}},
    {"OutputFolderMissing",
     [](Job& job) { job.flags["--output"] = "/nonexistent/folder/o.jsonl"; },
     {"/nonexistent/folder"}},
    {"OutputOfAnotherKind",
     [](Job& job) { job.flags["--output"] = job.work / "o.csv"; },
     {"o.csv"}},
    {"OutputExists",
     [](Job& job) { job.work.write("o.jsonl", "precious\n"); },
     {"o.jsonl", "--overwrite"}},
    {"OutputNameTooLong",
     [](Job& job) { job.flags["--output"] = job.work / (std::string(240, 'o') + ".jsonl"); },
     {"oooo", "File name too long"}},
    {"PromptsAsOutput",
     [](Job& job) {
       job.flags["--output"] = job.flags["--prompts"];
       job.more = {"--overwrite"};
     },
     {"--output", "p.jsonl", "--prompts"}},
    {"StopTokenOfNoModel",
     [](Job& job) { job.flags["--stop-token-ids"] = "5,387"; },
     {"--stop-token-ids", "387", "0 to 386"}},
    {"EndlessGrace",
     [](Job& job) { job.flags["--grace-period"] = "1e300"; },
     {"--grace-period: '1e300'"}},
    {"EndlessTime",
     [](Job& job) { job.flags["--time-limit"] = "99999999:00:00"; },
     {"--time-limit: '99999999:00:00'"}},
    {"TemperatureBeyondFloats",
     [](Job& job) { job.flags["--temperature"] = "1e300"; },
     {"--temperature: '1e300'"}},
    {"ShardBehindTheLast", [](Job& job) { job.flags["--shard"] = "3/2"; }, {"--shard: '3/2'"}},
    {"ConfigFolder",
     [](Job& job) { job.flags["--config"] = job.work / "model"; },
     {"--config", "/model"}},
    {"UnknownFlag",
     [](Job& job) { job.more = {"--max-num-sequences=3"}; },
     {"--max-num-sequences", "did you mean --max-num-seqs?"}},
    {"BadValue", [](Job& job) { job.flags["--top-p"] = "1.5"; }, {"--top-p: '1.5'"}},
    {"MissingConfigFile",
     [](Job& job) { job.flags["--config"] = "/nonexistent/run.cfg"; },
     {"--config", "/nonexistent/run.cfg"}},
    {"NoSuchDevice",
     [](Job& job) {
       job.flags["--device"] = "cuda";
       setenv("CUDA_VISIBLE_DEVICES", "", 1);
     },
     {"CUDA"}},
};

class BadInput : public ::testing::TestWithParam<Mistake> {
 protected:
  void expect_one_line(int ranks) const {
    SCOPED_TRACE(testing::Message() << ranks << " ranks");
    Job job;
    GetParam().make(job);
    const Outcome outcome = run({.ranks = ranks, .arguments = job.arguments()});
    EXPECT_FALSE(outcome.timed_out) << outcome.errors;
    EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
    const Strings lines = outcome.complaints();
    ASSERT_EQ(lines.size(), 1U) << outcome.errors;
    for (const std::string& word : GetParam().said) {
      EXPECT_THAT(lines[0], HasSubstr(word));
    }
    EXPECT_FALSE(fs::exists(job.work / "o.jsonl.spool"));
    EXPECT_EQ(read_file(job.work / "p.jsonl"), Job::prompts);
    if (GetParam().name == "OutputExists") {
      EXPECT_EQ(read_file(job.work / "o.jsonl"), "precious\n");
    } else {
      EXPECT_FALSE(fs::exists(job.work / "o.jsonl"));
    }
  }
};

TEST_P(BadInput, IsOneLineOnOneRank) { expect_one_line(0); }
TEST_P(BadInput, IsOneLineOnFourRanks) { expect_one_line(4); }

INSTANTIATE_TEST_SUITE_P(Of, BadInput, ::testing::ValuesIn(mistakes),
                         [](const auto& of) { return of.param.name; });

// A host without python3 would give each chat an error that the next host does not.
TEST(BadChatTemplate, EndsTheJobAndItGoesOnOnceThatIsMended) {
  Job job;
  job.work.write("p.jsonl", std::string(Job::prompts) + R"({"messages": [{"content": "hi"}]})");
  job.flags["--chat-template"] = job.work.write("chat.jinja", "{{ messages[0].content }}");
  job.more = {"--resume"};
  const Outcome outcome = run({.arguments = job.arguments(), .environment = {"PATH=/nonexistent"}});
  EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
  const Strings lines = outcome.complaints();
  ASSERT_EQ(lines.size(), 1U) << outcome.errors;
  EXPECT_THAT(lines[0], HasSubstr("there is no python3"));
  EXPECT_FALSE(fs::exists(job.work / "o.jsonl"));
  const Outcome again = run({.arguments = job.arguments()});
  EXPECT_EQ(again.exit_code, 0) << again.errors;
  EXPECT_THAT(again.errors, HasSubstr("(0 failed)"));
  EXPECT_THAT(read_file(job.work / "o.jsonl"), HasSubstr("\"index\":1"));
}

TEST(BadChatTemplate, IsOneLineOnFourRanks) {
  Job job;
  job.work.write("p.jsonl", R"({"messages": [{"content": "hi"}]})");
  job.flags["--chat-template"] = job.work.write("chat.jinja", "{% for %}");
  const Outcome outcome = run({.ranks = 4, .arguments = job.arguments()});
  EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
  const Strings lines = outcome.complaints();
  ASSERT_EQ(lines.size(), 1U) << outcome.errors;
  EXPECT_THAT(lines[0], HasSubstr("the chat template does not compile"));
}

// --- bad lines ----------------------------------------------------------------------------------

struct BadLine {
  std::string line;
  Strings said;
};

const std::vector<BadLine> bad_lines = {
    {R"({"prompt": )", {"JSON"}},
    {R"([1, 2])", {"object"}},
    {R"({"id": "x"})", {"prompt"}},
    {R"({"prompt": [400]})", {"400"}},
    {R"({"prompt": [5], "temperature": -1})", {"temperature", "-1"}},
    {R"({"prompt": [5], "top_p": 2})", {"top_p", "2"}},
    {R"({"prompt": [5], "max_tokens": 0})", {"max_tokens", "0"}},
    {R"({"prompt": [5], "temprature": 1})", {"temprature"}},
    {"{\"prompt\": [" +
         [] {
           std::string ids = "5";
           for (int i = 0; i < 300; ++i) ids += ",5";
           return ids;
         }() +
         "]}",
     {"301", "256"}},
    {"", {"empty"}},
};

void expect_errors_of_lines(int ranks) {
  Job job;
  std::string prompts;
  for (const BadLine& bad : bad_lines) {
    prompts += bad.line + "\n" + R"({"prompt": [5, 6, 7]})" + "\n";
  }
  job.work.write("p.jsonl", prompts);
  job.more = {"--temperature", "0"};
  const Outcome outcome = run({.ranks = ranks, .arguments = job.arguments()});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  std::istringstream results(read_file(job.work / "o.jsonl"));
  std::size_t index = 0;
  json good;
  for (std::string line; std::getline(results, line); ++index) {
    const json result = json::parse(line);
    EXPECT_EQ(result["index"], index);
    if (index % 2 == 1) {
      EXPECT_TRUE(result["error"].is_null()) << line;
      EXPECT_EQ(result["token_ids"].size(), 2U);
      if (good.is_null()) good = result["token_ids"];
      EXPECT_EQ(result["token_ids"], good);
      continue;
    }
    ASSERT_TRUE(result["error"].is_string()) << line;
    EXPECT_EQ(result["finish_reason"], "error");
    for (const std::string& word : bad_lines[index / 2].said) {
      EXPECT_THAT(result["error"].get<std::string>(), HasSubstr(word));
    }
  }
  EXPECT_EQ(index, 2 * bad_lines.size());
}

TEST(BadLines, AreTheirOwnErrorAndTheJobGoesOnOnOneRank) { expect_errors_of_lines(0); }
TEST(BadLines, AreTheirOwnErrorAndTheJobGoesOnOnFourRanks) { expect_errors_of_lines(4); }

}  // namespace
}  // namespace millrace::test
