// Prefill attention on Hopper: chooses the kernel, and describes queries and cache to the tensor
// copy engine. See attention_prefill_sm90.cuh.
#include <algorithm>
#include <bit>

#include "kernels/attention_prefill_sm90_launch.cuh"

namespace millrace::cuda {
namespace {

CUtensorMap map_of_queries(const AttentionArgs& args, DType dtype, int tile_queries) {
  const auto head_dim = static_cast<std::uint64_t>(args.head_dim);
  const std::uint64_t sizes[] = {head_dim, static_cast<std::uint64_t>(args.heads),
                                 static_cast<std::uint64_t>(args.tokens)};
  const std::uint64_t stride_bytes[] = {head_dim * 2,
                                        static_cast<std::uint64_t>(args.q_stride) * 2};
  const std::uint32_t box[] = {64, static_cast<std::uint32_t>(args.group),
                               static_cast<std::uint32_t>(tile_queries)};
  return map_of_tensor(args.q, dtype, sizes, stride_bytes, box);
}

}  // namespace

bool prefill_attention_sm90(const AttentionArgs& args, DType dtype, DType cache, Stream stream) {
  const auto block_size = static_cast<unsigned>(args.block_size);
  const bool is_fp8 = cache == DType::fp8_e4m3;
  if (!runs_hopper_kernels(stream.device) || block_size < 8 || !std::has_single_bit(block_size) ||
      args.scale <= 0 || args.group > prefill::tile_rows || tensor_map_encoder() == nullptr) {
    return false;
  }
  if (dtype != DType::bf16 && dtype != DType::f16) return false;
  if (cache != dtype && !is_fp8) return false;
  return with_head_dim(args.head_dim, [&](auto size) {
    constexpr int head_dim = decltype(size)::value;
    const int box_keys = is_fp8 ? prefill::Layout<Fp8, head_dim>::raw_keys
                                : prefill::Layout<__half, head_dim>::tile_keys;
    const int box_row_bytes =
        is_fp8 ? prefill::Layout<Fp8, head_dim>::raw_row_bytes : swizzled_row_bytes;
    const prefill::Plan plan{prefill::tile_rows / args.group, std::min(args.block_size, box_keys),
                             std::countr_zero(block_size)};
    const prefill::Maps maps{map_of_queries(args, dtype, plan.tile_queries),
                             map_of_cache(args, args.k_cache, cache, box_row_bytes, plan.box_rows),
                             map_of_cache(args, args.v_cache, cache, box_row_bytes, plan.box_rows)};
    if (is_fp8) {
      prefill::launch_fp8(args, dtype, plan, maps, stream);
    } else if (dtype == DType::bf16) {
      prefill::launch<__nv_bfloat16, __nv_bfloat16, head_dim>(args, plan, maps, stream);
    } else {
      prefill::launch<__half, __half, head_dim>(args, plan, maps, stream);
    }
  });
}

}  // namespace millrace::cuda
