// What a job finds when it starts and leaves when it ends: whether its work is new, half done by an
// earlier attempt, or done; and the result file that the journal becomes at the end.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "comm/comm.hpp"
#include "comm/stop_request.hpp"
#include "comm/work_ranges.hpp"
#include "core/config/run_config.hpp"
#include "core/io/fingerprint.hpp"
#include "core/io/journal_lock.hpp"
#include "core/io/report.hpp"
#include "core/io/spool.hpp"
#include "core/job/prompts.hpp"

namespace millrace {

struct Journal {
  enum class State {
    open,      // there is work: from the beginning, or what earlier runs left
    answered,  // every prompt is answered, only the result file is missing
    done,      // the result file is there
  };

  State state = State::open;
  std::filesystem::path folder;  // OUTPUT.spool
  JournalLock lock;              // on rank 0, for as long as this lives
  SpoolHeader header;            // of this run's spool files; the replica is the leader's
  std::vector<ByteRange> work;   // unanswered bytes of the prompt file; on rank 0
  std::int64_t work_bytes = 0;   // their sum
};

// Decides what is to be done. Without --resume the work is all of `prompts.part`, and what an
// earlier job left is discarded with --overwrite, else refused. With --resume it is what the
// journal does not answer, everything when there is none, and nothing when the result is there.
// `fingerprint` counts on rank 0. Throws on all ranks alike: UserError for a journal or a result of
// another job (naming what differs) and an output that cannot be written, TemporaryError for a
// journal that is still being written, Stopped when the job is asked to stop. Collective.
Journal open_journal(const Comm& world, const RunConfig& config, const Prompts& prompts,
                     const Fingerprint& fingerprint,
                     const std::vector<std::pair<std::string, std::string>>& settings,
                     const StopRequest& stop);

// The result file, with `report`, of a journal that answers every prompt; then the journal is gone.
// Where earlier runs have a part in the result, fills in report.job and makes the report's summary
// speak of all runs. Throws Stopped, and leaves the journal as it is, when the grace of `stop` is
// over. On rank 0.
void finish_journal(const Journal& journal, const RunConfig& config, const Report& report,
                    const StopRequest& stop);

}  // namespace millrace
