// What each attempt of a job contributed to its result.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "core/io/report.hpp"
#include "core/io/spool.hpp"

namespace millrace {

struct FinishedRequest;

class RunTally {
 public:
  void add(std::int32_t run, const FinishedRequest& request);

  std::vector<RunRow> rows() const;  // by run
  // Of all runs together. The times are those of run `last`, as `summary` has them, and for each
  // other run from its first kept request's arrival to the end of its last.
  Summary total(const Summary& summary, std::int32_t last) const;

 private:
  std::map<std::int32_t, RunRow> runs_;
};

// The part of a report that a journal's header knows: all but first_index, unanswered and runs.
JobReport job_report(const SpoolHeader& header);

}  // namespace millrace
