// The fingerprint of a job: model, tokenizer, prompts, and every setting that decides a token. What
// only decides speed, memory or place (the grid, the host, batch sizes) is not in it. Which flag is
// which stands in the table of flags (Flag::Change).
#pragma once

#include <vector>

#include "comm/comm.hpp"
#include "comm/stop_request.hpp"
#include "core/config/run_config.hpp"
#include "core/io/fingerprint.hpp"
#include "core/job/rank_model.hpp"

namespace millrace {

// On rank 0, which reads samples of the files; with --deep every byte of the weights and of the
// prompts is read, by all ranks together. A file is known by its name within the model's folder:
// where the folder lies does not count. Throws on all ranks alike, Stopped when the job is asked to
// stop. Collective.
Fingerprint fingerprint_job(const Comm& world, const RunConfig& config, const JobPlan& plan,
                            const StopRequest& stop);

// Its parts that are no files: for each flag that may not change the value that took effect, and
// what follows from several. Throws std::logic_error for such a flag whose value nobody says.
std::vector<FingerprintPart> compared_settings(const RunConfig& config, const JobPlan& plan);

}  // namespace millrace
