#include "core/engine/kv_cache.hpp"

namespace millrace {

KvCache::KvCache(const ModelSpec& spec, const RankSlices& slices, const KvCacheShape& shape,
                 Device device) {
  for (std::size_t i = 0; i < slices.slices.size(); ++i) {
    const AttentionSpec& attention =
        spec.layers[static_cast<std::size_t>(slices.layers.begin) + i].attention;
    const auto make = [&] {
      return Tensor(
          shape.dtype, device,
          {shape.blocks, slices.slices[i].kv_heads.count, shape.block_size, attention.head_dim});
    };
    layers_.push_back({make(), make()});
  }
}

}  // namespace millrace
