// What a job that died, or still runs, has answered so far, as a result file: `millrace-report
// --recover OUTPUT`. Only reads the journal, so the job can still be resumed.
#pragma once

#include <cstdint>
#include <filesystem>

#include "core/io/spool.hpp"

namespace millrace {

struct RecoverOptions {
  std::filesystem::path output;   // what the job was told to write
  std::filesystem::path prompts;  // where the prompt file is now; empty: where it was
  bool overwrite = false;
};

struct Recovered {
  std::filesystem::path file;  // answers.jsonl -> answers.recovered.jsonl
  std::int64_t answered = 0;   // lines
  std::int64_t unanswered = 0;
  SpoolDamage damage = {};
};

// answers.jsonl -> answers.recovered.jsonl: never the name of the result itself, which says that
// every prompt is answered.
std::filesystem::path recovered_path(const std::filesystem::path& output);

// Every line of the job has a row, in order, so that row i answers line i: those that are not
// answered have an error that says so. Needs the prompt file, to know how many those are. Throws
// UserError when there is no journal, or the prompts are gone or others.
Recovered recover_results(const RecoverOptions& options);

}  // namespace millrace
