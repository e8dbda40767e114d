#include "core/job/job.hpp"

#include <omp.h>

#include <cstdlib>

#include "comm/agree.hpp"
#include "comm/exit_code.hpp"
#include "comm/hosts.hpp"
#include "core/job/agreed_config.hpp"
#include "core/job/device_choice.hpp"
#include "core/job/job_fingerprint.hpp"
#include "core/job/job_report.hpp"
#include "core/job/journal.hpp"
#include "core/job/log.hpp"
#include "core/job/matmul_plans.hpp"
#include "core/job/prompts.hpp"
#include "core/job/replica_job.hpp"
#include "core/job/start_check.hpp"
#include "core/job/stop.hpp"
#include "core/version.hpp"

namespace millrace {
namespace {

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

// The journal becomes the result file.
void finish(const Comm& world, const RunConfig& config, const Journal& journal,
            const Report& report, const JobClock& clock, const StopRequest& stop) {
  agree(world, [&] {
    if (world.rank() == 0) {
      finish_journal(journal, config, report, stop);
    }
  });
  log_info("results in {}; {:.2f} s since start", config.output.output, clock.seconds());
}

int run(const Comm& world, Watchdog& watchdog, std::span<const std::string> arguments) {
  const JobClock clock;
  check_programs(world);
  const auto agreed = agree_on_config(world, arguments);
  if (!agreed) {
    return exit_code::done;
  }
  const RunConfig& config = agreed->run;
  start_log(config.log.level, world.rank() == 0);
  log_info("millrace {}, {} rank{}", version(), world.size(), world.size() == 1 ? "" : "s");
  for (const std::string& remark : agreed->remarks) {
    log_warning("{}", remark);
  }
  settle_stop(watchdog, config, clock);
  const StopRequest& stop = watchdog.stop_request();

  const Prompts prompts = find_prompts(world, config);
  check_models(world, config.model.model);
  const JobPlan plan = plan_job(world, config);
  if (const auto remark = device_remark(config.engine.device, plan.device); !remark.empty()) {
    log_warning("{}", remark);
  }
  const std::vector<RankFacts> ranks = check_hosts(world, plan.device);
  const auto settings = effective_settings(config, plan);
  const Journal journal = open_journal(world, config, prompts,
                                       fingerprint_job(world, config, plan, stop), settings, stop);
  if (journal.state == Journal::State::done) {
    log_info("{} is there already, nothing is left to do", config.output.output);
    return exit_code::done;
  }
  Report report;
  report.config = settings;
  if (journal.state == Journal::State::answered) {
    finish(world, config, journal, report, clock, stop);
    return exit_code::done;
  }

  log_info("{}", plan.explanation);
  Grid grid(world, plan.grid.shape);
  grid.bind(plan.device, config.engine.nvls, carried_sum_bytes(plan));
  report.gpu_sums = grid.tensor().describe_sums();
  if (!report.gpu_sums.empty()) {
    log_info("sums over {} GPUs: {}", grid.tensor().size(), report.gpu_sums);
  }
  const std::vector<GridLink> links = check_links(grid, plan.device, config.links);
  set_threads(grid);

  // The tokenizer is read while the weights are.
  std::future<ModelText> text;
  if (grid.is_leader()) {
    text = std::async(std::launch::async, load_model_text, plan.files, config.model.tokenizer,
                      config.input.chat_template);
  }
  const RankModel rank = load_rank(grid, plan, config, stop);
  log_info("weights: {}", describe_loading(grid.world(), rank.weights.report));
  prepare_matmul_plans(grid.node(), rank.weights, plan.options, plan.device);
  const double loaded_seconds = clock.seconds();

  const ReplicaOutcome outcome =
      run_replica(grid, plan, rank, std::move(text), config, journal, clock, stop,
                  [&](const KvCacheRow& memory) {
                    describe_ranks(grid, plan, ranks, rank, memory, report);
                    for (const std::string& line : kv_cache_lines(
                             plan.device.is_cuda() ? "GPU" : "CPU", replica_blocks(report.kv_cache),
                             report.kv_cache.block_size, report.kv_cache.max_model_len)) {
                      log_info("{}", line);
                    }
                    for (const std::string& line : limit_lines(report.kv_cache)) {
                      log_info("{}", line);
                    }
                  });
  if (has_stopped(world, stop, outcome)) {
    return exit_code::stopped;
  }
  report.links = measure_grid_links(grid, plan.device, links);
  const double first_token_seconds = add_outcomes(grid, outcome, loaded_seconds, report);
  for (const std::string& line : summary_lines(report, first_token_seconds)) {
    log_info("{}", line);
  }
  finish(world, config, journal, report, clock, stop);
  if (report.summary.errors > 0) {
    log_warning("{} of {} prompts {} an error; millrace-report {} says which",
                with_commas(report.summary.errors), with_commas(report.summary.requests),
                report.summary.errors == 1 ? "has" : "have", config.output.output);
  }
  return exit_code::done;
}

}  // namespace

int run_job(const Comm& world, Watchdog& watchdog, std::span<const std::string> arguments) {
  try {
    return run(world, watchdog, arguments);
  } catch (const Stopped& stopped) {
    log_info("stopped by {}; run again with --resume", stopped.what());
    return exit_code::stopped;
  }
}

}  // namespace millrace
