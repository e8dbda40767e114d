// Launching the products of linear_stream_sm90_cuda.cuh.
#include <algorithm>

#include "kernels/base/cuda_tensor_map.cuh"
#include "kernels/linear_stream.hpp"
#include "kernels/linear_stream_sm90_cuda.cuh"

namespace millrace::cuda {
namespace {

// Of a multiprocessor's 228 KiB; leaves room beside it for the blocks of small ops.
constexpr int shared_bytes = 204 << 10;

template <typename T, typename Out, int tokens>
void launch(const StreamedProduct& product, Stream stream) {
  const auto kernel = stream_kernel<T, Out, tokens>;
  static thread_local bool prepared = false;
  if (!prepared) {
    cuda_check(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
        "cudaFuncSetAttribute");
    prepared = true;
  }
  const std::int64_t multiprocessors = multiprocessor_count(stream.device);
  const std::int64_t tiles_a_block = ceil_div(product.n, multiprocessors * stream_rows);
  const std::int64_t rows = ceil_div(ceil_div(product.n, multiprocessors * tiles_a_block), 8) * 8;
  const std::int64_t tiles = ceil_div(product.n, rows);
  constexpr int unit_bytes = stream_blocks * swizzled_row_bytes;  // of a row
  const auto stage_bytes = static_cast<int>(rows + tokens) * unit_bytes;
  // The tensor cores read whole 64 rows, beyond the last stage too.
  const auto behind_bytes = static_cast<int>(stream_rows - rows) * swizzled_row_bytes;
  constexpr int alignment = 1024;
  StreamArgs args{};
  args.out = product.out;
  args.bias = product.bias;
  args.out_stride = product.out_stride;
  args.m = static_cast<int>(product.m);
  args.n = static_cast<int>(product.n);
  args.rows = static_cast<int>(rows);
  args.stages =
      std::min((shared_bytes - alignment - behind_bytes) / stage_bytes, stream_most_stages);
  args.tiles = static_cast<int>(tiles);
  args.tile_units =
      static_cast<int>(ceil_div(product.k * static_cast<std::int64_t>(sizeof(T)), unit_bytes));
  args.out_is_f32 = product.out_dtype == DType::f32;
  args.x_scales = product.x_scales;
  args.w_scales = product.w_scales;
  const LaunchShape shape{static_cast<unsigned>(ceil_div(tiles, tiles_a_block)), stream_threads,
                          shared_bytes};
  launch_early(
      "stream_kernel", kernel, shape, stream,
      map_of_rows(product.w, product.dtype, product.n, product.k, product.k, args.rows),
      map_of_rows(product.x, product.dtype, product.m, product.k, product.x_stride, tokens), args);
}

template <typename T, typename Out>
void launch_for_rows(const StreamedProduct& product, Stream stream) {
  if (product.m <= 16) return launch<T, Out, 16>(product, stream);
  if (product.m <= 32) return launch<T, Out, 32>(product, stream);
  launch<T, Out, 64>(product, stream);
}

bool starts_at_16_bytes(const void* data, std::int64_t stride, DType dtype) {
  return reinterpret_cast<std::uintptr_t>(data) % pack_bytes == 0 &&
         stride * static_cast<std::int64_t>(size_of(dtype)) % pack_bytes == 0;
}

}  // namespace

bool streamed_product(const StreamedProduct& product, Stream stream) {
  if (!runs_hopper_kernels(stream.device) || tensor_map_encoder() == nullptr) return false;
  if (product.m > streamed_rows || product.n % 8 != 0 ||
      !starts_at_16_bytes(product.w, product.k, product.dtype) ||
      !starts_at_16_bytes(product.x, product.x_stride, product.dtype) ||
      !starts_at_16_bytes(product.out, product.out_stride, product.out_dtype)) {
    return false;
  }
  switch (product.dtype) {
    case DType::bf16:
      launch_for_rows<__nv_bfloat16, __nv_bfloat16>(product, stream);
      return true;
    case DType::f16:
      launch_for_rows<__half, __half>(product, stream);
      return true;
    case DType::fp8_e4m3:
      if (product.out_dtype == DType::f16) {
        launch_for_rows<Fp8, __half>(product, stream);
      } else {
        launch_for_rows<Fp8, __nv_bfloat16>(product, stream);
      }
      return true;
    default:
      return false;
  }
}

}  // namespace millrace::cuda
