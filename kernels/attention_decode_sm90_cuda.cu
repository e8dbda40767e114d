// Decode attention whose tiles the tensor copy engine of Hopper brings: for heads whose rows are
// columns of 64 or 128 bytes.
#include "kernels/attention_decode_launch.cuh"
#include "kernels/attention_decode_sm90_feed.cuh"

namespace millrace::cuda {
namespace {

template <typename T, typename Kv, int head_dim, int columns>
__global__ void __launch_bounds__(decode::threads, decode::blocks_per_sm)
    decode_sm90_kernel(const __grid_constant__ AttentionArgs args, const decode::Parts parts,
                       const __grid_constant__ decode::CacheMaps maps) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  decode::decode<T, Kv, head_dim, columns, decode::BoxCopies>(args, parts, maps);
#endif
}

template <typename T, typename Kv, int head_dim, int columns>
bool launch(const AttentionArgs& args, const decode::CacheMaps& maps, Stream stream) {
  return decode::launch<decode::Ring<T, Kv, head_dim, columns, decode::BoxCopies>>(
      "decode_sm90_kernel", decode_sm90_kernel<T, Kv, head_dim, columns>, args, stream, maps);
}

}  // namespace

bool decode_attention_sm90(const AttentionArgs& args, DType dtype, DType cache, Stream stream) {
  if (!runs_hopper_kernels(stream.device) || tensor_map_encoder() == nullptr) return false;
  const auto with_size = [&](auto element, auto cache_element, auto size) {
    using T = decltype(element);
    using Kv = decltype(cache_element);
    constexpr int head_dim = decltype(size)::value;
    if constexpr (head_dim * sizeof(Kv) % 128 == 0 || head_dim * sizeof(Kv) == 64) {
      using Rows = decode::TileRows<Kv, head_dim, true>;
      const auto map = [&](const void* data) {
        return map_of_cache(args, data, cache, Rows::column_bytes, decode::tile_keys);
      };
      const decode::CacheMaps maps{map(args.k_cache), map(args.v_cache)};
      return decode::with_columns(args.group, [&](auto columns) {
        return launch<T, Kv, head_dim, decltype(columns)::value>(args, maps, stream);
      });
    } else {
      return false;
    }
  };
  bool found = false;
  return with_tensor_core_types(dtype, cache,
                                [&](auto element, auto cache_element) {
                                  with_head_dim(args.head_dim, [&](auto size) {
                                    found = with_size(element, cache_element, size);
                                  });
                                }) &&
         found;
}

}  // namespace millrace::cuda
