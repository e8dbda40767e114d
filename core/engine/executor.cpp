#include "core/engine/executor.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "comm/pipeline_transfer.hpp"
#include "core/engine/elapsed.hpp"
#include "core/engine/workspace.hpp"
#include "core/engine/worst_step.hpp"
#include "kernels/gather.hpp"

namespace millrace {

Executor::Executor(const ModelSpec& spec, const RankSlices& slices, const RankWeights& weights,
                   const Grid& grid, const ExecutorParameters& parameters)
    : spec_(spec),
      slices_(slices),
      grid_(grid),
      limits_(parameters.limits),
      trace_(parameters.trace),
      stream_(parameters.device),
      rows_per_pass_(max_rows_per_pass(limits_.sequences, parameters.device.kind)),
      batch_(limits_, parameters.device),
      latest_tokens_(DType::i32, parameters.device, {limits_.sequences}),
      feeds_stages_(parameters.feeds_stages && grid.shape().pipeline > 1),
      transformer_(spec, slices, weights, grid.tensor(), limits_.tokens, rows_per_pass_,
                   parameters.activation_dtype, parameters.device),
      graph_sizes_(limits_) {
  if (!grid.is_last_stage()) return;
  const auto passes = (parameters.limits.sequences + rows_per_pass_ - 1) / rows_per_pass_;
  const SamplerParameters sampler{
      .shard = {slices.vocab.begin, slices.vocab.count},
      .max_rows = rows_per_pass_,
      .batches = passes,
      .max_num_seqs = static_cast<std::int32_t>(parameters.limits.sequences),
      .seed = parameters.seed,
      .eos_token_ids = parameters.eos_token_ids};
  sampler_.emplace(sampler, grid.tensor(), parameters.device);
  for (std::int32_t i = 0; i <= steps_ahead(parameters.device); ++i) {
    Drawn& drawn = drawn_.emplace_back(Drawn{.passes = {}, .done = Event(parameters.device)});
    for (std::int64_t pass = 0; pass < passes; ++pass) {
      drawn.passes.emplace_back(rows_per_pass_, parameters.device);
    }
  }
}

void Executor::make_cache(const KvCacheShape& shape) {
  graphs_.clear();  // they hold the addresses of the cache that was there
  cache_.reset();
  cache_.emplace(spec_, slices_, shape, stream_.stream().device);
}

void Executor::launch(const BatchPlan& plan) {
  if (plan.empty()) return;
  const Stream stream = stream_.stream();
  const std::optional<GraphSize> size = graph_size(plan);
  // A sequence has a token in every so many steps.
  receive_tokens(plan.step - grid_.shape().pipeline);
  if (trace_ != nullptr) trace_->begin(plan, size && can_record_, stream);
  run_step(plan, size, stream);
  if (trace_ != nullptr) trace_->end(stream);
  if (feeds_stages_ && grid_.is_first_stage()) unfed_steps_.push_back(plan.step);
  if (feeds_stages_ && grid_.is_last_stage()) grid_.pipeline().send(latest_tokens_, 0, stream);
}

// First stage: what the last one has drawn until then. It sends the tokens of all slots after every
// step, since they are a few KiB.
void Executor::receive_tokens(std::int64_t last_step) {
  for (; !unfed_steps_.empty() && unfed_steps_.front() <= last_step; unfed_steps_.pop_front()) {
    grid_.pipeline().recv(latest_tokens_, grid_.shape().pipeline - 1, stream_.stream());
  }
}

void Executor::finish() {
  receive_tokens(std::numeric_limits<std::int64_t>::max());
  synchronize(stream_.stream());
}

void Executor::run_step(const BatchPlan& plan, std::optional<GraphSize> size, Stream stream) {
  const int stage = grid_.coordinates().pipeline;
  if (size) {
    batch_.upload_padded(plan, size->sequences, size->table_width, stream);
  } else {
    batch_.upload(plan, stream);
  }
  // A stream orders a GPU's sends before what comes next, so there one buffer will do.
  if (!grid_.is_last_stage() && stream.device.is_cpu()) transformer_.swap_hidden();
  const TensorView x = transformer_.hidden(batch_.num_tokens());
  if (!grid_.is_first_stage()) {
    const AddElapsed waited(waited_seconds_);
    receive_from_stage(grid_, x, stage - 1, stream);
  }
  logits_ = {};
  if (size) {
    run_graph(*size, stream);
  } else {
    run_ops(false, stream);
  }
  if (grid_.is_last_stage()) {
    sample(plan, stream);
  } else {
    const AddElapsed waited(waited_seconds_);
    send_.wait();
    send_ = send_to_stage(grid_, x, stage + 1, stream);
  }
}

// Only decode steps recur in equal sizes, and only those of which all rows draw have no other
// sizes.
std::optional<GraphSize> Executor::graph_size(const BatchPlan& plan) const {
  const bool recurs = Graph::is_supported(stream_.stream().device) && plan.max_query_length == 1 &&
                      plan.num_samples() == plan.num_sequences();
  if (!recurs) return std::nullopt;
  return graph_sizes_.padded(plan.num_sequences(), plan.block_table_width);
}

void Executor::run_graph(GraphSize size, Stream stream) {
  const bool with_logits = size.sequences <= rows_per_pass_;
  if (!std::exchange(can_record_, true)) return run_ops(with_logits, stream);
  auto graph = graphs_.find(size);
  if (graph == graphs_.end()) {
    Graph recorded = Graph::record(stream, [&] { run_ops(with_logits, stream); });
    graph = graphs_.emplace(size, std::move(recorded)).first;
  }
  graph->second.launch(stream);
  if (with_logits && grid_.is_last_stage()) logits_ = transformer_.logits_of(size.sequences);
}

void Executor::run_ops(bool with_logits, Stream stream) {
  if (grid_.is_first_stage()) {
    if (!batch_.token_sources().empty()) {
      feed_tokens(batch_.tokens(), latest_tokens_, batch_.token_sources(), stream);
    }
    transformer_.embed(batch_, stream);
  }
  // MPI moves long messages only while somebody calls it: the last step's activations go on between
  // layers, so that the next stage does not wait for this step's end.
  transformer_.run_layers(
      batch_, *cache_, [this] { send_.done(); }, stream);
  if (with_logits && grid_.is_last_stage()) {
    logits_ = transformer_.logits(batch_, 0, batch_.logits_rows().size(0), stream);
  }
}

void Executor::sample(const BatchPlan& plan, Stream stream) {
  Drawn& drawn = drawn_of(plan.step);
  drawn.step = plan.step;
  drawn.passes_used = 0;
  for (std::int64_t begin = 0; begin < plan.num_samples(); begin += rows_per_pass_) {
    const std::int64_t rows = std::min(rows_per_pass_, plan.num_samples() - begin);
    sampler_->prepare(std::span(plan.samples)
                          .subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(rows)),
                      stream);
    const TensorView logits = logits_.empty() ? transformer_.logits(batch_, begin, rows, stream)
                                              : logits_.slice(0, begin, rows);
    sampler_->draw(logits, stream);
    keep_tokens(latest_tokens_, sampler_->tokens(), batch_.sample_slots().slice(0, begin, rows),
                stream);
    sampler_->download(drawn.passes[drawn.passes_used++], stream);
  }
  drawn.done.record(stream);
}

std::int64_t Executor::warm_up(const KvCacheShape& cache) {
  make_cache({.blocks = 1, .block_size = cache.block_size, .dtype = cache.dtype});
  const Stream stream = stream_.stream();
  const WorstSteps worst(limits_);
  const auto run = [&](const BatchPlan& plan) {
    launch(plan);
    synchronize(stream);
    if (grid_.is_last_stage()) collect(plan.step);
    return free_device_memory_bytes(stream.device);
  };
  StepTrace* const trace = std::exchange(trace_, nullptr);
  std::int64_t step = 0;
  const std::int64_t free_without_graphs = run(worst.prompts(step++));
  std::int64_t free_with_graphs = free_without_graphs;
  std::int64_t recorded = 0;
  if (Graph::is_supported(stream.device)) {
    for (std::int64_t n = limits_.sequences; n > 0; n /= 2) {
      const BatchPlan plan = worst.decode(step++, n);
      if (!can_record_) run(worst.decode(step++, n));
      free_with_graphs = run(plan);
      ++recorded;
    }
  }
  finish();
  trace_ = trace;
  waited_seconds_ = 0;
  if (recorded == 0) return 0;
  const std::int64_t taken = std::max<std::int64_t>(free_without_graphs - free_with_graphs, 0);
  return taken / recorded * std::max<std::int64_t>(graph_sizes_.count() - recorded, 0);
}

StepResult Executor::collect(std::int64_t step) {
  Drawn& drawn = drawn_of(step);
  {
    const AddElapsed waited(waited_seconds_);
    drawn.done.wait();
  }
  drawn.step = -1;
  StepResult result{.step = step, .tokens = {}, .logprobs = {}};
  for (std::size_t pass = 0; pass < drawn.passes_used; ++pass) {
    drawn.passes[pass].append_to(result);
  }
  return result;
}

}  // namespace millrace
