// What lies in OUTPUT.spool, for whoever decides about a job from outside: its user, or a batch
// script.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/io/spool.hpp"

namespace millrace {

struct JournalStatus {
  bool has_result = false;          // the output is there
  std::int32_t runs = 0;            // attempts that left spool files
  std::int64_t answered = 0;        // prompts
  std::int64_t answered_bytes = 0;  // of the prompt file, newlines included
  std::int64_t job_bytes = 0;       // of the prompt file, that the job is to answer
  SpoolDamage damage = {};
  std::string holder;       // the job that holds the journal now, if one does and says so
  bool is_written = false;  // some process writes to it now
};

// Reads the whole journal of the job that writes `output`, in bounded memory, and changes nothing.
// Throws UserError when it cannot be read, or is of several jobs.
JournalStatus journal_status(const std::filesystem::path& output);

// That in lines for its user.
std::string status_text(const std::filesystem::path& output, const JournalStatus& status);

// The size of the journal's answers in bytes, headers left out: grows with each answer, and with
// nothing else. Reads the header of each spool file and no more, so that a script may ask while a
// job's time runs out. 0 without a journal.
std::int64_t answer_bytes(const std::filesystem::path& output);

// True when the folder of spool files holds nothing that is worth keeping: there is none, or all of
// them are sound and hold no answer, as a job leaves them that ended before its first step.
bool is_without_answers(const std::filesystem::path& spool_folder);

}  // namespace millrace
