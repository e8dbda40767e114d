#include "test/end_to_end/interrupted_job.hpp"

#include <signal.h>

#include <map>
#include <sstream>
#include <stdexcept>

namespace millrace::test {

namespace fs = std::filesystem;
using nlohmann::json;

SmallJob::SmallJob() {
  std::string text;
  for (int i = 0; i < prompt_count; ++i) {
    text += json{{"id", std::to_string(i)},
                 {"prompt", {5 + i % 300, 6 + i % 77, 7}},
                 {"max_tokens", 5 + i % 20}}
                .dump() +
            "\n";
  }
  prompts_ = work_.write("p.jsonl", text);
}

Launch SmallJob::launch(const std::string& name, const Strings& more, int ranks) const {
  std::map<std::string, std::string> flags = {{"--model", fixture("llama-tied-bias")},
                                              {"--prompts", prompts_},
                                              {"--output", work_ / name},
                                              {"--temperature", "0.8"},
                                              {"--logprobs", "1"},
                                              {"--max-num-seqs", "8"},
                                              {"--progress-interval", "0"}};
  for (const std::string& flag : more) {
    const std::size_t equals = flag.find('=');
    flags[flag.substr(0, equals)] = equals == std::string::npos ? "true" : flag.substr(equals + 1);
  }
  Launch launch{.ranks = ranks};
  for (const auto& [flag, value] : flags) {
    launch.arguments.push_back(flag + "=" + value);
  }
  return launch;
}

void SmallJob::interrupt(const std::string& name, const Strings& more,
                         std::int64_t journal_bytes) const {
  Launch start = launch(name, more);
  const fs::path folder = spool(name);
  start.meanwhile = [&](int process, double) {
    if (bytes_in(folder) >= journal_bytes) {
      kill(process, SIGKILL);
    }
  };
  const Outcome outcome = run(start);
  if (outcome.exit_code != 128 + SIGKILL || fs::exists(work_ / name)) {
    throw std::runtime_error("the job was to be killed: " + outcome.errors);
  }
}

const std::string& SmallJob::undisturbed() {
  if (undisturbed_.empty()) {
    const Outcome outcome = run_to("undisturbed.jsonl");
    if (outcome.exit_code != 0) {
      throw std::runtime_error(outcome.errors);
    }
    undisturbed_ = read_file(work_ / "undisturbed.jsonl");
  }
  return undisturbed_;
}

std::vector<json> json_lines(const std::string& path) {
  std::vector<json> lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);) {
    lines.push_back(json::parse(line));
  }
  return lines;
}

std::int64_t bytes_in(const fs::path& folder) {
  std::int64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const auto size = entry.file_size(error);
    bytes += error ? 0 : static_cast<std::int64_t>(size);
  }
  return bytes;
}

}  // namespace millrace::test
