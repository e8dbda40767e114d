// What a result file says about a job as a whole, gathered in one pass and bounded memory, and told
// as text: `millrace-report FILE`.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/io/distribution.hpp"
#include "core/io/report.hpp"
#include "core/io/result_reader.hpp"

namespace millrace {

// Lines that failed for one reason, and the first of them.
struct ErrorGroup {
  std::string message;
  std::int64_t count = 0;
  std::int64_t first_index = 0;
};

struct Statistics {
  std::string file;
  std::string millrace_version;
  std::int64_t requests = 0;
  std::int64_t outputs = 0;
  std::array<std::int64_t, 3> finish_reasons{};  // by FinishReason
  std::int64_t errors = 0;
  std::vector<ErrorGroup>
      error_groups;                  // the most frequent first; messages with numbers are grouped
  Distribution prompt_tokens;        // per request that has any
  Distribution output_tokens;        // per completion
  Distribution latency_seconds;      // arrival to last token, of requests that did not fail
  Distribution first_token_seconds;  // arrival to first token
  Distribution seconds_per_token;    // after the first
};

Statistics gather_statistics(const ResultReader& reader, const std::string& file);

// The summary, several lines.
std::string summary_text(const Report& report, const Statistics& statistics);

}  // namespace millrace
