#include "bench/throughput/run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "comm/stop_request.hpp"
#include "core/engine/result_sink.hpp"

namespace millrace::bench {

namespace {

class NoSink : public ResultSink {
 public:
  void put(FinishedRequest&&) override {}
};

// Says what one replica has done, and ends it when its time is over.
class Watch {
 public:
  Watch(const Workload& workload, double time_limit)
      : workload_(workload), time_limit_(time_limit) {}

  void begin() { begin_ = Clock::now(); }

  void on_step(const ReplicaProgress& progress) {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    last_ = progress;
    if (time_limit_ > 0 && seconds >= time_limit_ && !stop_.is_made()) {
      stop_.make("the time limit", 0);
    }
    if (seconds < next_line_) return;
    next_line_ += line_seconds;
    fmt::print(stderr,
               "{}: {:.1f} s, step {}: {} output tokens, {} prompt tokens, {} of {} requests; {} "
               "run, {} wait, {} blocks in use, {} preemptions\n",
               workload_.name, seconds, progress.step, progress.output_tokens,
               progress.prompt_tokens, progress.requests_done, workload_.requests.size(),
               progress.running, progress.waiting, progress.blocks_in_use, progress.preemptions);
  }

  const ReplicaProgress& last() const { return last_; }
  const StopRequest& stop() const { return stop_; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr double line_seconds = 15;

  const Workload& workload_;
  double time_limit_;
  double next_line_ = line_seconds;
  Clock::time_point begin_;
  ReplicaProgress last_;
  StopRequest stop_;
};

}  // namespace

WorkloadRun run_workload(const Engine& engine, const Workload& workload, double time_limit) {
  const Grid& grid = engine.grid;
  const PlanOptions& options = engine.plan.options;
  const Workload mine = share_of(workload, grid.coordinates().data, grid.shape().data);
  MadeUpSource source(mine, engine.plan.model.spec.vocab_size);
  NoSink sink;
  Watch watch(mine, time_limit);
  StepTrace trace(engine.plan.device);
  ReplicaParameters parameters = replica_parameters(engine.plan, engine.rank);
  parameters.trace = &trace;
  parameters.source = &source;
  parameters.sink = &sink;
  parameters.on_step = [&](const ReplicaProgress& progress) { watch.on_step(progress); };
  parameters.stop = &watch.stop();
  Replica replica(engine.plan.model.spec, engine.rank.slices, engine.rank.weights, grid,
                  parameters);
  grid.world().barrier();
  watch.begin();
  replica.run();

  const Replica::Times times = replica.times();
  const Comm& world = grid.world();
  const ReplicaProgress& last = watch.last();
  WorkloadRun run;
  run.is_complete = world.all_reduce_max(watch.stop().is_made() ? 1 : 0) == 0;
  run.seconds = 1e-9 * static_cast<double>(world.all_reduce_max(
                           static_cast<std::int64_t>(1e9 * times.running_seconds)));
  run.prompt_tokens = world.all_reduce_sum(last.prompt_tokens);
  run.output_tokens = world.all_reduce_sum(last.output_tokens);
  run.preemptions = world.all_reduce_sum(last.preemptions);
  run.cache_tokens = std::int64_t{replica.num_blocks()} * options.block_size;
  if (world.rank() == 0) {
    run.steps = trace.records();
    run.waited_seconds = times.waiting_seconds;
    run.roofline_seconds = roofline_seconds(run.steps, engine.cost, engine.replica);
    run.ideal_seconds = ideal_seconds(
        mine, {.max_num_seqs = options.max_num_seqs, .cache_tokens = run.cache_tokens}, engine.cost,
        engine.replica);
    std::int64_t outputs = 0;
    for (const Lengths& request : mine.requests) outputs += request.output;
    run.ideal_tokens_per_second = static_cast<double>(outputs) / run.ideal_seconds;
  }
  return run;
}

}  // namespace millrace::bench
