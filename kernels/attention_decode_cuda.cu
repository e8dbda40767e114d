// Decode attention on GPUs since sm_80 that have the shared memory: chooses the kernel of a batch's
// types and head size.
#include "kernels/attention_decode_feed.cuh"
#include "kernels/attention_decode_launch.cuh"

namespace millrace::cuda {
namespace {

template <typename T, typename Kv, int head_dim, int columns>
__global__ void __launch_bounds__(decode::threads, decode::blocks_per_sm)
    decode_kernel(const __grid_constant__ AttentionArgs args, const decode::Parts parts) {
  decode::decode<T, Kv, head_dim, columns, decode::LaneCopies>(args, parts, decode::NoMaps{});
}

template <typename T, typename Kv, int head_dim, int columns>
bool launch(const AttentionArgs& args, Stream stream) {
  return decode::launch<decode::Ring<T, Kv, head_dim, columns, decode::LaneCopies>>(
      "decode_kernel", decode_kernel<T, Kv, head_dim, columns>, args, stream);
}

}  // namespace

bool decode_attention(const AttentionArgs& args, DType dtype, DType cache, Stream stream) {
  if (args.block_size % decode::tile_keys != 0 || args.scale <= 0) return false;
  AttentionArgs decoded = args;
  decoded.sequences = args.decode_sequences;
  if (decode_attention_sm90(decoded, dtype, cache, stream)) return true;
  bool launched = false;
  with_tensor_core_types(dtype, cache, [&](auto element, auto cache_element) {
    with_head_dim(args.head_dim, [&](auto size) {
      using T = decltype(element);
      using Kv = decltype(cache_element);
      constexpr int head_dim = decltype(size)::value;
      launched = decode::with_columns(args.group, [&](auto columns) {
        return launch<T, Kv, head_dim, decltype(columns)::value>(decoded, stream);
      });
    });
  });
  return launched;
}

}  // namespace millrace::cuda
