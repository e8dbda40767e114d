#include "core/job/job.hpp"

#include <omp.h>

#include <cstdlib>

#include "comm/agree.hpp"
#include "comm/hosts.hpp"
#include "core/io/merge.hpp"
#include "core/io/results.hpp"
#include "core/job/agreed_config.hpp"
#include "core/job/job_report.hpp"
#include "core/job/log.hpp"
#include "core/job/replica_job.hpp"
#include "core/version.hpp"

namespace millrace {
namespace {

namespace fs = std::filesystem;

// Looks at the files that the job reads and writes, before any work.
PromptFile check_files(const Comm& world, const RunConfig& config) {
  PromptFile prompts;
  prompts.path = config.input.prompts;
  prompts.spool = spool_folder(config.output.output);
  agree(world, [&] {
    std::error_code error;
    prompts.bytes = static_cast<std::int64_t>(fs::file_size(prompts.path, error));
    if (error || !fs::is_regular_file(prompts.path)) {
      throw UserError("--prompts: cannot read '{}' on host {}", config.input.prompts, host_name());
    }
    if (world.rank() == 0) {
      check_output(config.output.output, config.output.overwrite);
      if (fs::exists(prompts.spool) && !config.output.overwrite) {
        throw UserError("--output: '{}' is left of a job that did not end; --overwrite discards it",
                        prompts.spool.string());
      }
    }
  });
  if (world.all_reduce_min(prompts.bytes) != world.all_reduce_max(prompts.bytes)) {
    throw UserError("--prompts: '{}' has not the same size on all hosts", config.input.prompts);
  }
  return prompts;
}

// OpenMP threads of this rank: its share of the cores, unless the user set them.
void set_threads(const Grid& grid) {
  const CoreShare share = share_cores(grid.node());
  if (std::getenv("OMP_NUM_THREADS") == nullptr) {
    omp_set_num_threads(share.threads);
  }
  log_info("{} thread{} for each rank", omp_get_max_threads(),
           omp_get_max_threads() == 1 ? "" : "s");
  if (share.ranks_cores < share.launcher_cores) {
    log_warning(
        "the {} rank{} of host {} may use {} of its {} cores; mpirun's --bind-to none lifts that",
        grid.node().size(), grid.node().size() == 1 ? "" : "s", host_name(), share.ranks_cores,
        share.launcher_cores);
  }
}

// From the spool files to the result, on rank 0.
void write_results(const RunConfig& config, const PromptFile& prompts, const Report& report) {
  const auto results = open_results({.output = config.output.output,
                                     .overwrite = config.output.overwrite,
                                     .prompt_token_ids = config.output.return_prompt_token_ids});
  merge_spool({.folder = prompts.spool},
              [&](std::int64_t index, FinishedRequest&& request) { results->add(index, request); });
  results->finish(report);
  fs::remove_all(prompts.spool);
}

}  // namespace

int run_job(const Comm& world, std::span<const std::string> arguments) {
  const JobClock clock;
  const auto agreed = agree_on_config(world, arguments);
  if (!agreed) {
    return 0;
  }
  const RunConfig& config = agreed->run;
  start_log(config.log.level, world.rank() == 0);
  log_info("millrace {}, {} rank{}", version(), world.size(), world.size() == 1 ? "" : "s");
  for (const std::string& remark : agreed->remarks) {
    log_warning("{}", remark);
  }

  PromptFile prompts = check_files(world, config);
  const JobPlan plan = plan_job(world, config);
  const auto settings = effective_settings(config, plan);
  prompts.fingerprint = fingerprint_of(settings, prompts.bytes);
  log_info("{}", plan.explanation);
  Grid grid(world, plan.grid.shape);
  grid.bind(plan.device);
  set_threads(grid);
  if (const std::string warning = slow_link_warning(grid); !warning.empty()) {
    log_warning("{}", warning);
  }
  agree(world, [&] {
    if (world.rank() == 0) {
      fs::remove_all(prompts.spool);
    }
  });

  // The tokenizer is read while the weights are.
  std::future<ModelText> text;
  if (grid.is_leader()) {
    text = std::async(std::launch::async, load_model_text, plan.files, config.model.tokenizer,
                      config.input.chat_template);
  }
  const RankModel rank = load_rank(grid, plan, config);
  log_info("weights: {}", describe_loading(grid.world(), rank.weights.report));
  const double loaded_seconds = clock.seconds();

  Report report;
  const ReplicaOutcome outcome = run_replica(
      grid, plan, rank, std::move(text), config, prompts, clock, [&](const KvCacheRow& memory) {
        describe_ranks(grid, plan, rank, memory, report);
        for (const std::string& line :
             kv_cache_lines(plan.device.is_cuda() ? "GPU" : "CPU", replica_blocks(report.kv_cache),
                            report.kv_cache.block_size, report.kv_cache.max_model_len)) {
          log_info("{}", line);
        }
      });
  add_links(grid, report);
  report.config = settings;
  add_outcomes(grid, outcome, loaded_seconds, report);
  agree(world, [&] {
    if (world.rank() == 0) {
      write_results(config, prompts, report);
    }
  });
  for (const std::string& line : summary_lines(report, outcome.first_token_seconds)) {
    log_info("{}", line);
  }
  log_info("results in {}; {:.2f} s since start", config.output.output, clock.seconds());
  return 0;
}

}  // namespace millrace
