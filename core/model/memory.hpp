// Bytes of weights and cache per rank, and what they mean in tokens: the arithmetic that the engine
// and millrace-plan share.
#pragma once

#include <cstdint>

#include "core/model/partition.hpp"
#include "core/model/tensor_spec.hpp"
#include "kernels/base/device.hpp"
#include "kernels/base/dtype.hpp"

namespace millrace {

// Bytes that load_weights() keeps on a rank's device: matrices in `dtype`, or fp8 with scales, as
// the device packs them, norms, biases and the rope table of `max_positions` rows.
std::int64_t weight_bytes(const ModelDescription& model, const RankSlices& slices, DType dtype,
                          DeviceKind device, std::int64_t max_positions);

// Elements of all layers' matrices, the output head's not among them: a token takes two operations
// with each.
std::int64_t layer_matrix_elements(const ModelSpec& spec);

// Bytes of one cache block on a rank: k and v of block_size positions, over its layers and KV
// heads.
std::int64_t cache_block_bytes(const ModelSpec& spec, const RankSlices& slices, int block_size,
                               DType cache_dtype);

// What a replica can hold when its smallest rank has `blocks` blocks.
struct CacheCapacity {
  std::int64_t blocks = 0;
  std::int64_t tokens = 0;   // whole blocks
  double concurrency = 0.0;  // requests of max_model_len tokens at once
};

CacheCapacity cache_capacity(std::int64_t blocks, int block_size, std::int64_t max_model_len);

}  // namespace millrace
