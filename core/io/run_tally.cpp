#include "core/io/run_tally.hpp"

#include <algorithm>

#include "core/batch/request.hpp"

namespace millrace {

void RunTally::add(std::int32_t run, const FinishedRequest& request) {
  const auto [found, first] = runs_.try_emplace(run);
  RunRow& row = found->second;
  row.run = run;
  row.started_seconds =
      first ? request.arrived_seconds : std::min(row.started_seconds, request.arrived_seconds);
  row.finished_seconds = std::max(row.finished_seconds, request.finished_seconds);
  ++row.requests;
  row.errors += request.error.empty() ? 0 : 1;
  row.prompt_tokens += std::ssize(request.prompt_token_ids);
  for (const Completion& completion : request.completions) {
    row.output_tokens += std::ssize(completion.token_ids);
  }
}

std::vector<RunRow> RunTally::rows() const {
  std::vector<RunRow> rows;
  for (const auto& [run, row] : runs_) {
    rows.push_back(row);
  }
  return rows;
}

Summary RunTally::total(const Summary& summary, std::int32_t last) const {
  Summary total{.load_seconds = summary.load_seconds, .run_seconds = summary.run_seconds};
  for (const auto& [run, row] : runs_) {
    total.requests += row.requests;
    total.errors += row.errors;
    total.prompt_tokens += row.prompt_tokens;
    total.output_tokens += row.output_tokens;
    if (run != last) {
      total.run_seconds += std::max(0.0, row.finished_seconds - row.started_seconds);
    }
  }
  return total;
}

JobReport job_report(const SpoolHeader& header) {
  return {.fingerprint = header.fingerprint,
          .prompt_begin = header.prompt_begin,
          .prompt_end = header.prompt_end,
          .prompt_file_bytes = header.prompt_file_bytes};
}

}  // namespace millrace
