// What a grid means for memory: weights and KV cache of every rank, and what a replica can hold.
// millrace-plan prints it. On CPUs the engine sizes its cache with it; on GPUs it measures what is
// left for the cache (core/engine/worst_step.hpp), which a plan foretells.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/grid.hpp"
#include "core/model/memory.hpp"
#include "core/model/tensor_spec.hpp"
#include "kernels/base/device.hpp"
#include "kernels/base/dtype.hpp"

namespace millrace {

struct PlanOptions {
  DeviceKind device = DeviceKind::cpu;
  DType dtype = DType::f32;        // of the weights
  DType cache_dtype = DType::f32;  // of keys and values
  std::int64_t max_model_len = 0;
  int block_size = 16;
  int max_num_seqs = 256;
  int max_num_batched_tokens = 2048;
  // What one rank may use for weights, activations and cache together.
  std::int64_t memory_bytes = 0;
  // --kv-cache-memory-bytes: the cache is exactly this large, whatever is left.
  std::optional<std::int64_t> cache_bytes;
  // The cache need not hold more than max_num_seqs sequences of max_model_len tokens. True on CPUs,
  // where memory that is not taken serves other programs.
  bool limit_to_use = true;
  std::vector<int> pipeline_partition;  // empty: layers split by cost
};

struct RankPlan {
  GridCoordinates at;  // data = 0: replicas are alike
  std::int64_t layers = 0;
  std::int64_t weight_bytes = 0;
  std::int64_t activation_bytes = 0;
  std::int64_t library_bytes = 0;  // what libraries and graphs take of a GPU; an estimate
  std::int64_t cache_bytes = 0;    // negative: what is missing for the weights alone
  std::int64_t block_bytes = 0;    // one block of the rank's layers and KV heads
  std::int64_t blocks = 0;

  // All but the cache.
  std::int64_t fixed_bytes() const { return weight_bytes + activation_bytes + library_bytes; }
};

struct GridPlan {
  GridShape shape;
  std::vector<RankPlan> ranks;  // of one replica, in rank order
  std::size_t limiting = 0;     // index of the rank with the fewest blocks
  CacheCapacity replica;        // what one replica holds
  // Why the grid cannot run; empty when it can: the smallest rank holds its weights and a cache for
  // one request of max_model_len tokens.
  std::string problem;

  bool works() const { return problem.empty(); }
};

// Never throws for a grid that the model cannot take: that is its `problem`.
GridPlan plan_grid(const ModelDescription& model, const GridShape& shape,
                   const PlanOptions& options);

// Blocks that `cache_bytes` bytes give on a rank, with the cap that limit_to_use asks for.
std::int64_t blocks_of(std::int64_t cache_bytes, std::int64_t block_bytes,
                       const PlanOptions& options);

}  // namespace millrace
