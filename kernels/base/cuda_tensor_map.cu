#include "kernels/base/cuda_tensor_map.cuh"

#include "kernels/base/cuda_check.hpp"

namespace millrace::cuda {

decltype(&cuTensorMapEncodeTiled) tensor_map_encoder() {
  static const auto function = []() -> decltype(&cuTensorMapEncodeTiled) {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    cuda_check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                cudaEnableDefault, &result),
               "cudaGetDriverEntryPointByVersion");
    return result == cudaDriverEntryPointSuccess
               ? reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found)
               : nullptr;
  }();
  return function;
}

CUtensorMap map_of_tensor(const void* data, DType dtype, std::span<const std::uint64_t> sizes,
                          std::span<const std::uint64_t> stride_bytes,
                          std::span<const std::uint32_t> box) {
  constexpr cuuint32_t steps[5] = {1, 1, 1, 1, 1};
  const CUtensorMapDataType type = dtype == DType::fp8_e4m3 ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                                   : dtype == DType::f16    ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                            : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  const CUtensorMapSwizzle swizzle =
      box[0] * size_of(dtype) == 128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B;
  CUtensorMap map;
  const CUresult result = tensor_map_encoder()(
      &map, type, static_cast<cuuint32_t>(sizes.size()), const_cast<void*>(data), sizes.data(),
      stride_bytes.data(), box.data(), steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw CudaError("cuTensorMapEncodeTiled", static_cast<cudaError_t>(result));
  }
  return map;
}

CUtensorMap map_of_rows(const void* data, DType dtype, std::int64_t rows, std::int64_t columns,
                        std::int64_t stride, int box_rows) {
  const std::uint64_t sizes[] = {static_cast<std::uint64_t>(columns),
                                 static_cast<std::uint64_t>(rows)};
  const std::uint64_t stride_bytes[] = {static_cast<std::uint64_t>(stride) * size_of(dtype)};
  const std::uint32_t box[] = {static_cast<std::uint32_t>(128 / size_of(dtype)),
                               static_cast<std::uint32_t>(box_rows)};
  return map_of_tensor(data, dtype, sizes, stride_bytes, box);
}

}  // namespace millrace::cuda
