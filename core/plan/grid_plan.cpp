#include "core/plan/grid_plan.hpp"

#include <algorithm>

#include "core/engine/workspace.hpp"
#include "core/io/report.hpp"
#include "core/model/partition.hpp"
#include "core/plan/human_bytes.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// Measured on an H100 with CUDA 13: the context, the code of kernels, cuBLASLt, scratch, graphs;
// and what NCCL takes for its communicators. A run measures anew (Executor::warm_up).
constexpr std::int64_t gpu_library_bytes = std::int64_t{850} << 20;
constexpr std::int64_t nccl_bytes = std::int64_t{1792} << 20;

std::int64_t blocks_of_request(const PlanOptions& options) {
  return (options.max_model_len + options.block_size - 1) / options.block_size;
}

RankPlan plan_rank(const ModelDescription& model, const GridShape& shape, const GridCoordinates& at,
                   const PlanOptions& options) {
  const RankSlices slices = partition(model.spec, shape, at, options.pipeline_partition);
  RankPlan rank;
  rank.at = at;
  rank.layers = slices.layers.count;
  rank.weight_bytes =
      weight_bytes(model, slices, options.dtype, options.device, options.max_model_len);
  rank.activation_bytes =
      workspace_shape(model.spec, slices, options.max_num_batched_tokens,
                      max_rows_per_pass(options.max_num_seqs, options.device))
          .bytes(options.device == DeviceKind::cpu ? DType::f32 : options.dtype);
  if (options.device == DeviceKind::cuda) {
    rank.library_bytes = gpu_library_bytes + (shape.ranks() > 1 ? nccl_bytes : 0);
  }
  rank.block_bytes = cache_block_bytes(model.spec, slices, options.block_size, options.cache_dtype);
  const std::int64_t left = options.memory_bytes - rank.fixed_bytes();
  rank.cache_bytes = options.cache_bytes.value_or(left);
  rank.blocks = blocks_of(rank.cache_bytes, rank.block_bytes, options);
  if (left >= 0) {
    rank.cache_bytes =
        std::min(rank.cache_bytes, std::max(rank.blocks, std::int64_t{1}) * rank.block_bytes);
  }
  return rank;
}

// What would help a rank that has `left` bytes where it needs `needed`.
std::string remedy_of(const RankPlan& rank, const PlanOptions& options, std::int64_t left,
                      std::int64_t needed) {
  if (left + rank.activation_bytes < needed) return "";
  return fmt::format(
      "; less than --max-num-batched-tokens {} or --max-num-seqs {} would leave more",
      options.max_num_batched_tokens, options.max_num_seqs);
}

// Why a planned rank cannot run, or nothing.
std::string problem_of(const RankPlan& rank, const PlanOptions& options) {
  const std::int64_t left = options.memory_bytes - rank.fixed_bytes();
  if (left < options.cache_bytes.value_or(0)) {
    return fmt::format(
        "needs {} of weights, {} of activations{}{} per rank, and a rank may use {}{}",
        human_bytes(rank.weight_bytes), human_bytes(rank.activation_bytes),
        rank.library_bytes == 0
            ? ""
            : fmt::format(", {} for libraries", human_bytes(rank.library_bytes)),
        options.cache_bytes ? fmt::format(" and {} of KV cache", human_bytes(*options.cache_bytes))
                            : "",
        human_bytes(options.memory_bytes),
        remedy_of(rank, options, left, options.cache_bytes.value_or(0)));
  }
  if (rank.blocks < blocks_of_request(options)) {
    return fmt::format(
        "has room for {} tokens of KV cache in {}, less than one request of --max-model-len {} (it "
        "needs {}){}",
        with_commas(rank.blocks * options.block_size),
        human_bytes(std::max<std::int64_t>(rank.cache_bytes, 0)), options.max_model_len,
        human_bytes(blocks_of_request(options) * rank.block_bytes),
        options.cache_bytes
            ? ""
            : remedy_of(rank, options, left, blocks_of_request(options) * rank.block_bytes));
  }
  return "";
}

}  // namespace

std::int64_t blocks_of(std::int64_t cache_bytes, std::int64_t block_bytes,
                       const PlanOptions& options) {
  std::int64_t blocks = std::max<std::int64_t>(cache_bytes, 0) / block_bytes;
  if (options.limit_to_use) {
    blocks = std::min(blocks, options.max_num_seqs * blocks_of_request(options));
  }
  return blocks;
}

GridPlan plan_grid(const ModelDescription& model, const GridShape& shape,
                   const PlanOptions& options) {
  GridPlan plan;
  plan.shape = shape;
  try {
    for (int stage = 0; stage < shape.pipeline; ++stage) {
      for (int tensor = 0; tensor < shape.tensor; ++tensor) {
        plan.ranks.push_back(plan_rank(model, shape, {0, stage, tensor}, options));
      }
    }
  } catch (const UserError& error) {
    plan.ranks.clear();
    plan.problem = error.what();
    return plan;
  }
  const auto fewest = std::ranges::min_element(plan.ranks, {}, &RankPlan::blocks);
  plan.limiting = static_cast<std::size_t>(fewest - plan.ranks.begin());
  plan.replica = cache_capacity(fewest->blocks, options.block_size, options.max_model_len);
  for (const RankPlan& rank : plan.ranks) {
    if (plan.problem.empty()) {
      plan.problem = problem_of(rank, options);
    }
  }
  return plan;
}

}  // namespace millrace
