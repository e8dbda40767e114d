// A job whose process is killed when its journal has grown to some size, and what the tests of
// restarts ask about jobs.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "test/end_to_end/program.hpp"

namespace millrace::test {

using Strings = std::vector<std::string>;

// A folder with prompts that a small model answers in a second or two on one rank.
class SmallJob {
 public:
  static constexpr int prompt_count = 3000;

  SmallJob();

  // `more` replaces or adds flags, as "--seed=4"; the output is `name` in the folder.
  Launch launch(const std::string& name, const Strings& more = {}, int ranks = 0) const;
  Outcome run_to(const std::string& name, const Strings& more = {}, int ranks = 0) const {
    return run(launch(name, more, ranks));
  }
  // Runs on one rank until the journal holds `journal_bytes`, then SIGKILL. The journal is left.
  void interrupt(const std::string& name, const Strings& more = {},
                 std::int64_t journal_bytes = 100'000) const;
  // The result of a run that nothing happened to; made once.
  const std::string& undisturbed();

  std::string operator/(const std::string& name) const { return work_ / name; }
  std::filesystem::path spool(const std::string& name) const { return work_ / (name + ".spool"); }
  const std::string& prompts() const { return prompts_; }  // the file
  const Workspace& workspace() const { return work_; }

 private:
  Workspace work_;
  std::string prompts_;
  std::string undisturbed_;
};

std::vector<nlohmann::json> json_lines(const std::string& path);

// Of all files in a folder; 0 when there is none.
std::int64_t bytes_in(const std::filesystem::path& folder);

}  // namespace millrace::test
