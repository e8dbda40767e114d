// Runs requests through the replicas of a grid on the ranks of a communicator, in process.
#pragma once

#include <filesystem>
#include <optional>

#include "comm/grid.hpp"
#include "comm/stop_request.hpp"
#include "core/engine/replica.hpp"
#include "core/model/tensor_spec.hpp"

namespace millrace::test {

struct EngineOptions {
  GridShape grid;  // must have as many ranks as the communicator
  std::int32_t max_num_batched_tokens = 64;
  std::int32_t max_num_seqs = 8;
  std::int32_t max_model_len = 128;
  std::int32_t block_size = 4;
  std::optional<std::int64_t> num_blocks = 256;  // not set: measured (on GPUs)
  bool forecast = true;                          // of the cache's use at admission
  std::uint64_t seed = 0;
  std::optional<DType> dtype = {};   // of the weights; the checkpoint's own
  bool quantize_at_load = false;     // the layers' matrices, to fp8
  Device device = {};                // on a GPU, activations are in the weights' dtype
  const Grid* bound_grid = nullptr;  // of shape `grid`, bound to `device`; null: made for the run
  std::optional<DType> cache_dtype = {};  // the activations'
  const Tokenizer* tokenizer = nullptr;
  StopRequest* stop = nullptr;
  std::function<void(const ReplicaProgress&)> on_step = {};  // on leaders
  std::size_t requests_at_a_time = 3;                        // that the source gives
  bool endless = false;                                      // it never says that it is exhausted
};

struct EngineRun {
  bool is_leader = false;                 // of its replica
  std::vector<FinishedRequest> finished;  // on leaders, by Request::index
  ReplicaProgress last;                   // on leaders
  bool is_complete = true;                // on leaders
  std::int64_t dropped = 0;               // on leaders
  Replica::Times times;
  ReplicaMemory memory;
  std::vector<StepRecord> steps;  // of this rank
};

// The model at `path` (find_model). Replica r of d takes every d-th request from the r-th on.
// Collective.
EngineRun run_engine(const Comm& world, const std::filesystem::path& path,
                     const EngineOptions& options, const std::vector<Request>& requests);

// The same with made-up weights. Collective.
EngineRun run_dummy_engine(const Comm& world, const ModelDescription& model,
                           const EngineOptions& options, const std::vector<Request>& requests);

}  // namespace millrace::test
