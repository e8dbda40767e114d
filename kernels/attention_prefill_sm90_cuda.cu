// Prefill attention on Hopper: chooses the kernel, and describes queries and cache to the tensor
// copy engine. See attention_prefill_sm90.cuh.
#include <algorithm>
#include <bit>

#include "kernels/attention_prefill_sm90_launch.cuh"

namespace millrace::cuda {
namespace {

// The driver's encoder, found at run time so that the program starts where there is no driver.
using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

EncodeTiled encode_tiled() {
  static const EncodeTiled function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    cuda_check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                cudaEnableDefault, &result),
               "cudaGetDriverEntryPointByVersion");
    return result == cudaDriverEntryPointSuccess ? reinterpret_cast<EncodeTiled>(found) : nullptr;
  }();
  return function;
}

// A tensor of `dimensions` sizes, the innermost first, in boxes. Rows of a box have 128 or 64
// bytes, swizzled to that width, and are zeros beyond the tensor's end.
template <int dimensions>
CUtensorMap map_of(const void* data, DType dtype, const cuuint64_t (&sizes)[dimensions],
                   const cuuint64_t (&stride_bytes)[dimensions - 1],
                   const cuuint32_t (&box)[dimensions]) {
  cuuint32_t steps[dimensions];
  std::fill_n(steps, dimensions, 1);
  CUtensorMap map;
  const CUresult result =
      encode_tiled()(&map,
                     dtype == DType::fp8_e4m3 ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                     : dtype == DType::f16    ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                              : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                     dimensions, const_cast<void*>(data), sizes, stride_bytes, box, steps,
                     CU_TENSOR_MAP_INTERLEAVE_NONE,
                     box[0] * size_of(dtype) == swizzled_row_bytes ? CU_TENSOR_MAP_SWIZZLE_128B
                                                                   : CU_TENSOR_MAP_SWIZZLE_64B,
                     CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw CudaError("cuTensorMapEncodeTiled", static_cast<cudaError_t>(result));
  }
  return map;
}

CUtensorMap map_of_queries(const AttentionArgs& args, DType dtype, int tile_queries) {
  const auto head_dim = static_cast<cuuint64_t>(args.head_dim);
  const auto heads = static_cast<cuuint64_t>(args.heads);
  const auto row_bytes = static_cast<cuuint64_t>(args.q_stride) * 2;
  return map_of<3>(
      args.q, dtype, {head_dim, heads, static_cast<cuuint64_t>(args.tokens)},
      {head_dim * 2, row_bytes},
      {64, static_cast<cuuint32_t>(args.group), static_cast<cuuint32_t>(tile_queries)});
}

CUtensorMap map_of_cache(const AttentionArgs& args, const void* cache, DType dtype,
                         int box_row_bytes, int box_rows) {
  const auto head_dim = static_cast<cuuint64_t>(args.head_dim);
  const auto block_size = static_cast<cuuint64_t>(args.block_size);
  const auto kv_heads = static_cast<cuuint64_t>(args.kv_heads);
  const cuuint64_t row_bytes = head_dim * size_of(dtype);
  const auto box_columns =
      static_cast<cuuint32_t>(static_cast<std::size_t>(box_row_bytes) / size_of(dtype));
  return map_of<4>(cache, dtype,
                   {head_dim, block_size, kv_heads, static_cast<cuuint64_t>(args.blocks)},
                   {row_bytes, row_bytes * block_size, row_bytes * block_size * kv_heads},
                   {box_columns, static_cast<cuuint32_t>(box_rows), 1, 1});
}

}  // namespace

bool prefill_attention_sm90(const AttentionArgs& args, DType dtype, DType cache, Stream stream) {
  const auto block_size = static_cast<unsigned>(args.block_size);
  const bool is_fp8 = cache == DType::fp8_e4m3;
  if (compute_capability(stream.device) != 90 || block_size < 8 ||
      !std::has_single_bit(block_size) || args.scale <= 0 || args.group > prefill::tile_rows ||
      encode_tiled() == nullptr) {
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
