#include "bench/throughput/run.hpp"

#include <algorithm>

#include "core/engine/result_sink.hpp"

namespace millrace::bench {

namespace {

class NoSink : public ResultSink {
 public:
  void put(FinishedRequest&&) override {}
};

}  // namespace

WorkloadRun run_workload(const Engine& engine, const Workload& workload) {
  const Grid& grid = engine.grid;
  const PlanOptions& options = engine.plan.options;
  const Workload mine = share_of(workload, grid.coordinates().data, grid.shape().data);
  MadeUpSource source(mine, engine.plan.model.spec.vocab_size);
  NoSink sink;
  ReplicaProgress last;
  StepTrace trace(engine.plan.device);
  ReplicaParameters parameters = replica_parameters(engine.plan, engine.rank);
  parameters.trace = &trace;
  parameters.source = &source;
  parameters.sink = &sink;
  parameters.on_step = [&](const ReplicaProgress& progress) { last = progress; };
  Replica replica(engine.plan.model.spec, engine.rank.slices, engine.rank.weights, grid,
                  parameters);
  grid.world().barrier();
  replica.run();

  const Replica::Times times = replica.times();
  const Comm& world = grid.world();
  WorkloadRun run;
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
  }
  return run;
}

}  // namespace millrace::bench
