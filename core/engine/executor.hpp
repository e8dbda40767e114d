// One rank's device work: a plan's arrays to the device, this stage's layers, activations from the
// stage before and to the stage after, tokens on the last stage. Stages derive each other's shapes
// from the plan, which is the same on all of them, so activations travel with no metadata.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "comm/grid.hpp"
#include "core/batch/batch_plan.hpp"
#include "core/batch/step.hpp"
#include "core/engine/device_batch.hpp"
#include "core/engine/kv_cache.hpp"
#include "core/engine/sampler.hpp"
#include "core/engine/transformer.hpp"

namespace millrace {

struct ExecutorParameters {
  BatchLimits limits;
  KvCacheShape cache;
  std::uint64_t seed = 0;
  std::vector<std::int32_t> eos_token_ids;
  DType activation_dtype = DType::f32;
  Device device;
};

class Executor {
 public:
  // All references must outlive the executor.
  Executor(const ModelSpec& spec, const RankSlices& slices, const RankWeights& weights,
           const Grid& grid, const ExecutorParameters& parameters);

  // Enqueues the step; a plan with no tokens is not run. On the CPU it has run when this returns.
  void launch(const BatchPlan& plan);

  // Last stage: what the step launched last has drawn. Waits for the device.
  StepResult collect();

  std::int64_t activation_bytes() const { return transformer_.activation_bytes(); }
  // Time that launch() has spent waiting for the stages before and after this one.
  double waited_seconds() const { return waited_seconds_; }

 private:
  void sample(const BatchPlan& plan);

  const Grid& grid_;
  OwnedStream stream_;
  KvCache cache_;
  DeviceBatch batch_;
  Transformer transformer_;
  std::optional<Sampler> sampler_;  // last stage
  std::int64_t rows_per_pass_;
  SendHandle send_;  // of the last step's activations
  StepResult result_;
  double waited_seconds_ = 0;
};

}  // namespace millrace
