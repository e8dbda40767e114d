// The memory behind a rank's cache blocks: keys and values of its layers. Which block belongs to
// whom is the scheduler's business.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/model_spec.hpp"
#include "core/model/partition.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

struct KvCacheShape {
  std::int64_t blocks = 0;
  std::int64_t block_size = 16;  // tokens
  DType dtype = DType::f32;      // f32, bf16, f16 or fp8
};

// Throws UserError when the device has not the memory.
class KvCache {
 public:
  KvCache(const ModelSpec& spec, const RankSlices& slices, const KvCacheShape& shape,
          Device device);

  // Bytes that a GPU may take above a cache's own: each of its tensors takes whole pages.
  static std::int64_t most_rounding(const RankSlices& slices) {
    constexpr std::int64_t page_bytes = std::int64_t{2} << 20;
    return 2 * page_bytes * static_cast<std::int64_t>(slices.slices.size());
  }

  // Of the rank's layer i: [blocks, kv_heads, block_size, head_dim].
  const TensorView& keys(std::size_t layer) const { return layers_[layer].keys.view(); }
  const TensorView& values(std::size_t layer) const { return layers_[layer].values.view(); }

 private:
  struct Layer {
    Tensor keys;
    Tensor values;
  };
  std::vector<Layer> layers_;
};

}  // namespace millrace
