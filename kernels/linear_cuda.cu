// Matrix products by cuBLASLt. It thinks in columns: our row-major out [m, n] = x [m, k] * w [n,
// k]^T is its column-major out^T [n, m] = (w^T)^T [n, k] * x^T [k, m], with no copy of anything.
// f32 products are f32 throughout (never tf32); 16-bit ones sum in f32.
#include "kernels/linear.hpp"

#include <algorithm>
#include <array>
#include <mutex>

#include "kernels/base/cuda_map.cuh"
#include "kernels/base/cuda_scratch.hpp"
#include "kernels/linear_cuda.cuh"

namespace millrace::cuda {
namespace {

constexpr std::size_t workspace_bytes = std::size_t{32} << 20;
static_assert(workspace_bytes <= scratch_bytes);

cublasLtHandle_t handle_of(Device device) {
  static std::array<cublasLtHandle_t, 64> handles{};
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  cublasLtHandle_t& handle = handles.at(static_cast<std::size_t>(device.index));
  if (handle == nullptr) {
    use_device(device);
    cublas_check(cublasLtCreate(&handle), "cublasLtCreate");
  }
  return handle;
}

cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return CUDA_R_32F;
    case DType::f16:
      return CUDA_R_16F;
    case DType::bf16:
      return CUDA_R_16BF;
    default:
      throw_no_kernel("linear", dtype);
  }
}

template <typename Value>
void set(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute, Value value) {
  cublas_check(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof(value)),
               "cublasLtMatmulDescSetAttribute");
}

// A product in cuBLASLt's terms; all of it lives on the stack.
struct Description {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t w, x, out;

  explicit Description(const Product& product) {
    const ProductKey& key = product.key;
    cublas_check(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                 "cublasLtMatmulDescInit");
    set(&operation, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    if (key.bias) {
      set(&operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(&operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
      set(&operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(key.dtype));
    }
    const auto layout = [](cublasLtMatrixLayoutOpaque_t& matrix, DType dtype, std::int64_t rows,
                           std::int64_t columns, std::int64_t stride) {
      cublas_check(
          cublasLtMatrixLayoutInit(&matrix, data_type(dtype), static_cast<std::uint64_t>(rows),
                                   static_cast<std::uint64_t>(columns), stride),
          "cublasLtMatrixLayoutInit");
    };
    layout(w, key.dtype, key.k, key.n, product.w_stride);
    layout(x, key.dtype, key.k, key.m, product.x_stride);
    layout(out, key.out_dtype, key.n, key.m, product.out_stride);
  }
};

template <typename T>
struct AddBias {
  Rows<float> out;
  const T* bias;

  template <int N>
  __device__ void apply(std::int64_t row, int column) const {
    float* to = out.row(row) + column;
#pragma unroll
    for (int i = 0; i < N; ++i) to[i] += to_float(bias[column + i]);
  }
};

}  // namespace

std::int64_t row_bucket(std::int64_t m) {
  std::int64_t step = 1;
  if (m > 2048) {
    step = 2048;
  } else if (m > 512) {
    step = 256;
  } else if (m > 64) {
    step = 32;
  } else if (m > 16) {
    step = 16;
  } else {
    while (step < m) step *= 2;
  }
  return ceil_div(m, step) * step;
}

Candidates find_algorithms(const Product& product, int most, Device device) {
  Description description(product);
  cublasLtMatmulPreferenceOpaque_t preference;
  cublas_check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    cublas_check(
        cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof(value)),
        "cublasLtMatmulPreferenceSetAttribute");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes});
  const std::uint32_t alignment =
      product.key.packed ? 16U : static_cast<std::uint32_t>(size_of(product.key.dtype));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment);
  Candidates candidates;
  cublas_check(cublasLtMatmulAlgoGetHeuristic(
                   handle_of(device), &description.operation, &description.w, &description.x,
                   &description.out, &description.out, &preference,
                   std::min(most, Candidates::most), candidates.results, &candidates.count),
               "cublasLtMatmulAlgoGetHeuristic");
  if (candidates.count == 0)
    cublas_check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic");
  return candidates;
}

bool run_product(const Product& product, const cublasLtMatmulAlgo_t& algorithm, Stream stream) {
  Description description(product);
  const float one = 1;
  const float beta = product.key.accumulate ? 1.0F : 0.0F;
  const cublasStatus_t status = cublasLtMatmul(
      handle_of(stream.device), &description.operation, &one, product.w, &description.w, product.x,
      &description.x, &beta, product.out, &description.out, product.out, &description.out,
      &algorithm, scratch(stream), workspace_bytes, native(stream));
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return false;
  cublas_check(status, "cublasLtMatmul");
  return true;
}

LinearWeight pack_linear(const TensorView& w, Device device, Stream stream) {
  LinearWeight packed{Tensor(w.dtype(), device, {w.size(0), w.size(1)}), w.size(0), w.size(1)};
  const std::size_t element = size_of(w.dtype());
  const std::size_t row_bytes = static_cast<std::size_t>(w.size(1)) * element;
  if (w.numel() == 0) return packed;
  cuda_check(
      cudaMemcpy2DAsync(packed.data->data(), row_bytes, w.data(),
                        static_cast<std::size_t>(w.stride(0)) * element, row_bytes,
                        static_cast<std::size_t>(w.size(0)), cudaMemcpyDefault, native(stream)),
      "cudaMemcpy2DAsync");
  cuda::synchronize(stream);
  return packed;
}

void linear(const TensorView& out, const TensorView& x, const LinearWeight& w,
            const TensorView& bias, bool accumulate, Stream stream) {
  const bool mixed = out.dtype() != x.dtype();
  const bool has_bias = bias.data() != nullptr;
  Product product{};
  product.key = {x.size(0),
                 w.n,
                 w.k,
                 x.dtype(),
                 out.dtype(),
                 has_bias && !mixed,  // cuBLASLt adds only a bias of out's type
                 accumulate,
                 rows_are_packed(x) && rows_are_packed(out) && rows_are_packed(w.data) &&
                     rows_are_packed(bias)};
  product.out = out.data();
  product.x = x.data();
  product.w = w.data->data();
  product.bias = bias.data();
  product.out_stride = out.stride(0);
  product.x_stride = x.stride(0);
  product.w_stride = w.k;
  if (!run_product(product, plan_of(product, stream.device), stream)) {
    // The bucket's algorithm does not take this very row count.
    const Candidates exact = find_algorithms(product, 1, stream.device);
    if (!run_product(product, exact.results[0].algo, stream)) {
      cublas_check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmul");
    }
  }
  if (has_bias && mixed) {
    with_float_type("linear", bias.dtype(), [&](auto element) {
      using T = decltype(element);
      const AddBias<T> functor{rows_of<float>(out), static_cast<const T*>(bias.data())};
      map_rows<pack_width<float>()>("add_bias", functor, out.size(0), out.size(1), false, stream);
    });
  }
}

}  // namespace millrace::cuda
