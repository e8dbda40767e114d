// One rank's device work: a plan's arrays to the device, this stage's layers, activations from the
// stage before and to the stage after, tokens on the last stage. Stages derive each other's shapes
// from the plan, which is the same on all of them, so activations travel with no metadata.
//
// On a GPU launch() returns while the step runs. Tokens that the host has not seen yet are fed to a
// later step on the device, by way of the last stage where there are several, and a step that only
// decodes is replayed as one graph, recorded when its padded size comes up for the first time. Only
// the first such step of all runs as plain ops: what libraries and kernels set up when they are
// first called cannot be recorded. Where more sequences draw than the logits' workspace has rows
// for, the graph ends with the layers.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "comm/grid.hpp"
#include "core/batch/batch_plan.hpp"
#include "core/batch/step.hpp"
#include "core/engine/device_batch.hpp"
#include "core/engine/graph_sizes.hpp"
#include "core/engine/kv_cache.hpp"
#include "core/engine/sampler.hpp"
#include "core/engine/step_trace.hpp"
#include "core/engine/transformer.hpp"
#include "kernels/base/graph.hpp"

namespace millrace {

struct ExecutorParameters {
  BatchLimits limits;
  std::uint64_t seed = 0;
  std::vector<std::int32_t> eos_token_ids;
  DType activation_dtype = DType::f32;
  Device device;
  bool feeds_stages = false;   // in a pipeline: the last stage hands its tokens to the first
  StepTrace* trace = nullptr;  // told of every step; may be null
};

class Executor {
 public:
  // All references must outlive the executor. It has no cache yet: make_cache() before launch().
  Executor(const ModelSpec& spec, const RankSlices& slices, const RankWeights& weights,
           const Grid& grid, const ExecutorParameters& parameters);

  // Takes the memory for keys and values; what a cache held that was there before is lost.
  void make_cache(const KvCacheShape& shape);

  // Runs the largest steps that the limits allow, and records a graph for some sizes, with a cache
  // of a single block that stays until make_cache(): libraries, communicators and graphs have then
  // taken what they take of the device. Answers the bytes that graphs yet to be recorded will take.
  // Collective over the replica.
  std::int64_t warm_up(const KvCacheShape& cache);

  // Enqueues the step; a plan with no tokens is not run. On the CPU it has run when this returns.
  void launch(const BatchPlan& plan);

  // How many steps may be launched before a step is collected: 1 on a GPU, which then always has
  // the next step at hand; 0 on the CPU.
  static std::int32_t steps_ahead(Device device) { return device.is_cuda() ? 1 : 0; }

  // To be called when no more steps are launched, once all results are known: takes what other
  // stages have sent for further ones.
  void finish();

  // Last stage: true when the step was launched and not collected.
  bool has(std::int64_t step) const { return drawn_of(step).step == step; }

  // Last stage: what the step has drawn. Waits for the device. has(step) must be true.
  StepResult collect(std::int64_t step);

  std::int64_t activation_bytes() const { return transformer_.activation_bytes(); }
  // Time that launch() and collect() have spent waiting for other stages and for the device.
  double waited_seconds() const { return waited_seconds_; }

 private:
  // What a step has drawn, on its way to the host.
  struct Drawn {
    std::int64_t step = -1;
    std::vector<SampleDownload> passes;
    std::size_t passes_used = 0;
    Event done;
  };

  void receive_tokens(std::int64_t last_step);
  std::optional<GraphSize> graph_size(const BatchPlan& plan) const;
  void run_step(const BatchPlan& plan, std::optional<GraphSize> size, Stream stream);
  void run_graph(GraphSize size, Stream stream);
  void run_ops(bool with_logits, Stream stream);
  void sample(const BatchPlan& plan, Stream stream);
  Drawn& drawn_of(std::int64_t step) {
    return drawn_[static_cast<std::size_t>(step) % drawn_.size()];
  }
  const Drawn& drawn_of(std::int64_t step) const {
    return drawn_[static_cast<std::size_t>(step) % drawn_.size()];
  }

  const ModelSpec& spec_;
  const RankSlices& slices_;
  const Grid& grid_;
  BatchLimits limits_;
  StepTrace* trace_;
  OwnedStream stream_;
  std::int64_t rows_per_pass_;
  std::optional<KvCache> cache_;
  DeviceBatch batch_;
  Tensor latest_tokens_;  // [sequence slots] i32, on the first stage and the last
  bool feeds_stages_;
  std::deque<std::int64_t> unfed_steps_;  // first stage: whose tokens it has not received
  Transformer transformer_;
  std::optional<Sampler> sampler_;  // last stage
  std::vector<Drawn> drawn_;        // last stage: of step n at n % size
  SendHandle send_;                 // of the last step's activations
  GraphSizes graph_sizes_;
  std::map<GraphSize, Graph> graphs_;  // destroyed before the communicators they hold
  bool can_record_ = false;            // a step has decoded
  TensorView logits_;                  // of all rows of the step, when its ops have made them
  double waited_seconds_ = 0;
};

}  // namespace millrace
