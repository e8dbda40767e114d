// Jobs whose ranks are killed with SIGKILL at random moments and that are resumed, each time on a
// random grid, until they are done: nothing that was finished is lost, done twice, or changed.
//
//   MILLRACE_KILLS=200   how many kills (10)
//   MILLRACE_SEED=7      other moments, ranks and grids (1)
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "test/end_to_end/program.hpp"

namespace millrace::test {
namespace {

using nlohmann::json;
using Strings = std::vector<std::string>;
namespace fs = std::filesystem;

constexpr int prompt_count = 8000;
// Open MPI's mpirun sometimes stays when a rank dies while it connects to it, with no rank left:
// after so long it is killed too, as a batch system would.
constexpr double patience_seconds = 20;

struct Grid {
  int tensor = 1;
  int pipeline = 1;
  int data = 1;
  int ranks() const { return tensor * pipeline * data; }
};

int number_from_environment(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoi(value);
}

// What happened over all jobs of the test.
struct Tally {
  int kills = 0;
  int attempts = 0;
  int jobs = 0;
  int hung_launchers = 0;
  std::map<std::string, int> killed_while;  // by what the job was doing
};

// Prompts of a model whose two best tokens are never closer than 2e-3
// (test/data/make_reference.py), each in many lengths, so that no grid may change a token.
std::string make_prompts(const json& reference) {
  std::string text;
  const json& prompts = reference["prompts"];
  for (int i = 0; i < prompt_count; ++i) {
    const json& prompt = prompts[static_cast<std::size_t>(i * 7 % 8)];
    text += json{{"id", "line " + std::to_string(i)},
                 {"prompt", prompt["prompt_token_ids"]},
                 {"max_tokens", 1 + i % reference["steps"].get<int>()}}
                .dump() +
            "\n";
  }
  return text;
}

std::vector<json> lines_of(const std::string& path) {
  std::vector<json> lines;
  std::istringstream text(read_file(path));
  for (std::string line; std::getline(text, line);) {
    lines.push_back(json::parse(line));
  }
  return lines;
}

// What the job had said last when it was killed.
std::string stage_of(const std::string& log) {
  if (log.find("throughput: ") != std::string::npos) return "writing the result";
  if (log.find("KV cache size") != std::string::npos) return "answering";
  if (log.find("resuming: ") != std::string::npos || log.find("data ") != std::string::npos) {
    return "loading";
  }
  return "starting";
}

// "resuming: 1,234 prompts are answered ..." -> 1234; -1 when it does not say so.
int answered_before(const std::string& log) {
  const std::string words = "resuming: ";
  const std::size_t at = log.find(words);
  if (at == std::string::npos) return -1;
  std::string digits;
  for (std::size_t i = at + words.size(); log[i] != ' '; ++i) {
    if (log[i] != ',') digits += log[i];
  }
  return std::stoi(digits);
}

class Kill : public ::testing::Test {
 protected:
  Launch launch(const Grid& grid, const std::string& output) const {
    return {.ranks = grid.ranks(),
            .arguments = {"--model",
                          fixture("llama-tied-bias"),
                          "--prompts",
                          prompts_,
                          "--output",
                          output,
                          "--temperature",
                          "0",
                          "--ignore-eos",
                          "--logprobs",
                          "2",
                          "--dtype",
                          "float32",
                          "--max-num-seqs",
                          "4",
                          "--progress-interval",
                          "0",
                          "--checkpoint-interval",
                          "1",
                          "-tp",
                          std::to_string(grid.tensor),
                          "-pp",
                          std::to_string(grid.pipeline),
                          "-dp",
                          std::to_string(grid.data)},
            .timeout_seconds = 300};
  }

  // Tensor ranks: `tensor` of them, or with 0 any number.
  Grid random_grid(int tensor) {
    static const std::vector<Grid> grids = {{1, 1, 1}, {1, 2, 1}, {1, 1, 2}, {1, 3, 1}, {1, 2, 2},
                                            {1, 1, 3}, {2, 1, 1}, {2, 2, 1}, {2, 1, 2}, {3, 1, 1}};
    for (;;) {
      const Grid& grid = grids[random_() % grids.size()];
      if (tensor == 0 || grid.tensor == tensor) {
        return grid;
      }
    }
  }

  void print_tally() const {
    std::string stages;
    for (const auto& [stage, count] : tally_.killed_while) {
      stages += (stages.empty() ? "" : ", ") + std::to_string(count) + " " + stage;
    }
    std::printf("%d kills (%s), %d launchers that hung, in %d attempts at %d jobs of %d prompts\n",
                tally_.kills, stages.c_str(), tally_.hung_launchers, tally_.attempts, tally_.jobs,
                prompt_count);
    std::fflush(stdout);
  }

  // One job, killed and resumed until it is done, at most `kills` times. Writes `output`.
  void run_killed(int tensor, int& kills, const std::string& output) {
    int answered = 0;
    for (;;) {
      const Grid grid = random_grid(tensor);
      Launch start = launch(grid, output);
      start.arguments.push_back("--resume");
      const double moment = std::uniform_real_distribution<double>(0, 2)(random_);
      bool killed = false;
      double check_at = moment;
      double alive_at = 0;  // when the launcher was last seen to have a rank
      if (kills > 0) {
        start.meanwhile = [&](int process, double seconds) {
          if (seconds < check_at) return;
          const std::vector<int> ranks = descendants(process, "millrace");
          if (!ranks.empty()) {
            alive_at = seconds;
          }
          if (!killed && !ranks.empty()) {
            killed = kill(ranks[random_() % ranks.size()], SIGKILL) == 0;
          } else if (killed && seconds > alive_at + patience_seconds) {
            ++tally_.hung_launchers;
            kill(process, SIGKILL);
          }
          check_at = killed ? seconds + 1 : seconds;
        };
      }
      const Outcome outcome = run(start);
      ++tally_.attempts;
      ASSERT_FALSE(outcome.timed_out) << outcome.errors;
      const int before = answered_before(outcome.errors);
      if (before >= 0) {
        ASSERT_GE(before, answered) << "an answer was lost\n" << outcome.errors;
        answered = before;
      }
      ASSERT_EQ(outcome.errors.find("answered twice"), std::string::npos) << outcome.errors;
      if (killed) {
        --kills;
        ++tally_.kills;
        ++tally_.killed_while[stage_of(outcome.errors)];
      } else {
        ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
      }
      if (outcome.exit_code == 0) {
        return;
      }
      ASSERT_FALSE(fs::exists(output) && fs::exists(output + ".partial")) << outcome.errors;
    }
  }

  std::mt19937 random_{static_cast<unsigned>(number_from_environment("MILLRACE_SEED", 1))};
  Tally tally_;
  Workspace work_;
  const json reference_ = json::parse(read_file(fixture("llama-tied-bias") / "reference.json"));
  const std::string prompts_ = work_.write("p.jsonl", make_prompts(reference_));
};

void expect_same_answers(const std::vector<json>& lines, const std::vector<json>& undisturbed) {
  ASSERT_EQ(lines.size(), undisturbed.size());
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const json& line = lines[i];
    const json& wanted = undisturbed[i];
    ASSERT_EQ(line["index"], i);
    ASSERT_EQ(line["id"], wanted["id"]);
    ASSERT_EQ(line["token_ids"], wanted["token_ids"]) << "line " << i;
    ASSERT_EQ(line["text"], wanted["text"]) << "line " << i;
    ASSERT_EQ(line["finish_reason"], wanted["finish_reason"]);
    ASSERT_EQ(line["logprobs"].size(), wanted["logprobs"].size());
    for (std::size_t token = 0; token < line["logprobs"].size(); ++token) {
      ASSERT_NEAR(line["logprobs"][token]["logprob"].get<double>(),
                  wanted["logprobs"][token]["logprob"].get<double>(), 1e-4)
          << "line " << i << ", token " << token;
    }
  }
}

TEST_F(Kill, AJobThatIsKilledAndResumedGivesTheResultOfAnUndisturbedOne) {
  int kills = number_from_environment("MILLRACE_KILLS", 10);
  // An undisturbed run for each number of tensor ranks.
  std::map<int, std::string> undisturbed;
  for (const int tensor : {1, 2}) {
    const std::string output = work_ / ("undisturbed-" + std::to_string(tensor) + ".jsonl");
    const Outcome outcome = run(launch({.tensor = tensor}, output));
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    undisturbed[tensor] = output;
  }
  // The reference itself, so that two equal mistakes would be seen.
  const std::vector<json> expected = lines_of(undisturbed[1]);
  for (std::size_t i = 0; i < 24; ++i) {
    const json& tokens = reference_["prompts"][i * 7 % 8]["token_ids"];
    ASSERT_EQ(expected[i]["token_ids"],
              json(std::vector<json>(tokens.begin(), tokens.begin() + 1 + static_cast<int>(i))));
  }

  while (kills > 0) {
    // In turns: grids of one tensor rank, of two, of any number.
    const int tensor = std::array{1, 0, 2}[static_cast<std::size_t>(tally_.jobs) % 3];
    const std::string output = work_ / ("job-" + std::to_string(tally_.jobs++) + ".jsonl");
    SCOPED_TRACE(output + ", tensor ranks " + std::to_string(tensor));
    ASSERT_NO_FATAL_FAILURE(run_killed(tensor, kills, output));
    ASSERT_FALSE(fs::exists(output + ".spool"));
    if (tensor == 0) {
      ASSERT_NO_FATAL_FAILURE(expect_same_answers(lines_of(output), expected));
    } else {
      ASSERT_EQ(read_file(output), read_file(undisturbed[tensor])) << "not every byte is equal";
    }
    fs::remove(output);
    print_tally();
  }
}

}  // namespace
}  // namespace millrace::test
