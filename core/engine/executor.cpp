#include "core/engine/executor.hpp"

#include <algorithm>

#include "comm/pipeline_transfer.hpp"
#include "core/engine/elapsed.hpp"
#include "core/engine/workspace.hpp"

namespace millrace {

namespace {}  // namespace

Executor::Executor(const ModelSpec& spec, const RankSlices& slices, const RankWeights& weights,
                   const Grid& grid, const ExecutorParameters& parameters)
    : grid_(grid),
      stream_(parameters.device),
      cache_(spec, slices, parameters.cache, parameters.device),
      batch_(parameters.limits, parameters.device),
      transformer_(spec, slices, weights, grid.tensor(), parameters.limits.tokens,
                   std::min(parameters.limits.sequences, max_rows_per_pass),
                   parameters.activation_dtype, parameters.device),
      rows_per_pass_(std::min(parameters.limits.sequences, max_rows_per_pass)) {
  if (grid.is_last_stage()) {
    const SamplerParameters sampler{
        .shard = {slices.vocab.begin, slices.vocab.count},
        .max_rows = rows_per_pass_,
        .max_num_seqs = static_cast<std::int32_t>(parameters.limits.sequences),
        .seed = parameters.seed,
        .eos_token_ids = parameters.eos_token_ids};
    sampler_.emplace(sampler, grid.tensor(), parameters.device);
  }
}

void Executor::launch(const BatchPlan& plan) {
  if (plan.empty()) return;
  const Stream stream = stream_.stream();
  const int stage = grid_.coordinates().pipeline;
  batch_.upload(plan, stream);
  if (!grid_.is_last_stage()) transformer_.swap_hidden();
  const TensorView x = transformer_.hidden(plan.num_tokens());
  if (grid_.is_first_stage()) {
    transformer_.embed(batch_, stream);
  } else {
    const AddElapsed waited(waited_seconds_);
    receive_from_stage(grid_, x, stage - 1, stream);
  }
  // MPI moves long messages only while somebody calls it: the last step's activations go on between
  // layers, so that the next stage does not wait for this step's end.
  transformer_.run_layers(
      batch_, cache_, [this] { send_.done(); }, stream);
  if (grid_.is_last_stage()) {
    sample(plan);
  } else {
    const AddElapsed waited(waited_seconds_);
    send_.wait();
    send_ = send_to_stage(grid_, x, stage + 1, stream);
  }
}

void Executor::sample(const BatchPlan& plan) {
  result_ = {.step = plan.step, .tokens = {}, .logprobs = {}};
  const Stream stream = stream_.stream();
  for (std::int64_t begin = 0; begin < plan.num_samples(); begin += rows_per_pass_) {
    const std::int64_t rows = std::min(rows_per_pass_, plan.num_samples() - begin);
    sampler_->prepare(std::span(plan.samples)
                          .subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(rows)),
                      stream);
    sampler_->draw(transformer_.logits(batch_.logits_rows().slice(0, begin, rows), stream), stream);
    sampler_->collect(result_, stream);
  }
}

StepResult Executor::collect() { return std::move(result_); }

}  // namespace millrace
