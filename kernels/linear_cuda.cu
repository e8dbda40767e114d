// Matrix products by cuBLASLt. It thinks in columns: our row-major out [m, n] = x [m, k] * w [n,
// k]^T is its column-major out^T [n, m] = (w^T)^T [n, k] * x^T [k, m], with no copy of anything.
// f32 products are f32 throughout (never tf32); 16-bit ones sum in f32. fp8 products with scales of
// rows use the tensor cores' own, narrower sums over k ("fast accumulation"); with scales of blocks
// the library adds up in f32 every 128 inputs.
#include "kernels/linear.hpp"

#include <algorithm>
#include <array>
#include <mutex>

#include "kernels/base/cuda_map.cuh"
#include "kernels/base/cuda_scratch.hpp"
#include "kernels/linear_cuda.cuh"
#include "kernels/linear_errors.hpp"
#include "kernels/quantize.hpp"

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
    case DType::fp8_e4m3:
      return CUDA_R_8F_E4M3;
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
      set(&operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(key.out_dtype));
    }
    if (key.scaling != Fp8Scaling::none) {
      const bool rows = key.scaling == Fp8Scaling::rows;
      set(&operation, CUBLASLT_MATMUL_DESC_A_SCALE_MODE,
          rows ? CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F
               : CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F);
      set(&operation, CUBLASLT_MATMUL_DESC_B_SCALE_MODE,
          rows ? CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F
               : CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F);
      set(&operation, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, product.w_scales);
      set(&operation, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, product.x_scales);
      set(&operation, CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<std::int8_t>(rows ? 1 : 0));
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

// What the library proposes for a product like `product` that is described so.
Candidates proposals(Description& description, const Product& product, int most, Device device) {
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
  Candidates found;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_of(device), &description.operation, &description.w, &description.x, &description.out,
      &description.out, &preference, most, found.results, &found.count);
  if (status != CUBLAS_STATUS_NOT_SUPPORTED) cublas_check(status, "cublasLtMatmulAlgoGetHeuristic");
  return found;
}

// Drops the algorithms that do not do the product described so.
void keep_working(Candidates& candidates, Description& description, Device device) {
  int kept = 0;
  for (int i = 0; i < candidates.count; ++i) {
    cublasLtMatmulHeuristicResult_t checked{};
    const cublasStatus_t status = cublasLtMatmulAlgoCheck(
        handle_of(device), &description.operation, &description.w, &description.x, &description.out,
        &description.out, &candidates.results[i].algo, &checked);
    if (status != CUBLAS_STATUS_SUCCESS || checked.workspaceSize > workspace_bytes) continue;
    candidates.results[kept++] = candidates.results[i];
  }
  candidates.count = kept;
}

template <typename Out, typename T>
struct AddBias {
  Rows<Out> out;
  const T* bias;

  template <int N>
  __device__ void apply(std::int64_t row, int column) const {
    Out* to = out.row(row) + column;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      to[i] = from_float<Out>(to_float(to[i]) + to_float(bias[column + i]));
    }
  }
};

void add_bias(const TensorView& out, const TensorView& bias, Stream stream) {
  with_float_type("linear", out.dtype(), [&](auto to) {
    with_float_type("linear", bias.dtype(), [&](auto element) {
      using Out = decltype(to);
      using T = decltype(element);
      const AddBias<Out, T> functor{rows_of<Out>(out), static_cast<const T*>(bias.data())};
      map_rows<1>("add_bias", functor, out.size(0), out.size(1), false, stream);
    });
  });
}

// What cuBLASLt asks of an fp8 product.
void check_fp8(std::int64_t n, std::int64_t k, Device device) {
  const int capability = compute_capability(device);
  if (capability != 90) throw_no_fp8(capability);
  if (k % 16 != 0 || n % 8 != 0) throw_fp8_shape(n, k);
}

}  // namespace

bool fuses_bias(DType out_dtype, DType x_dtype, Fp8Scaling scaling) {
  return scaling == Fp8Scaling::none ? out_dtype == x_dtype : out_dtype != DType::f32;
}

Candidates find_algorithms(const Product& product, int most, Device device) {
  Description description(product);
  Candidates candidates;
  if (product.key.scaling == Fp8Scaling::rows) {
    // With scales of rows the library proposes one algorithm, made for many rows of x. Those that
    // it proposes for a scale of the whole tensor do scales of rows too, up to a third faster.
    Description whole(product);
    set(&whole.operation, CUBLASLT_MATMUL_DESC_A_SCALE_MODE,
        CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F);
    set(&whole.operation, CUBLASLT_MATMUL_DESC_B_SCALE_MODE,
        CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F);
    candidates = proposals(whole, product, most, device);
    keep_working(candidates, description, device);
  }
  if (candidates.count < most) {
    const Candidates own = proposals(description, product, most - candidates.count, device);
    std::copy_n(own.results, own.count, candidates.results + candidates.count);
    candidates.count += own.count;
  }
  if (candidates.count == 0) {
    cublas_check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic");
  }
  return candidates;
}

bool run_product(const Product& product, const ProductPlan& plan, Stream stream) {
  if (plan.streamed) {
    const ProductKey& key = product.key;
    return !key.accumulate && key.scaling != Fp8Scaling::blocks &&
           streamed_product({key.m, key.n, key.k, key.dtype, key.out_dtype, product.out, product.x,
                             product.w, key.bias ? product.bias : nullptr, product.out_stride,
                             product.x_stride, product.x_scales, product.w_scales},
                            stream);
  }
  Description description(product);
  const float one = 1;
  const float beta = product.key.accumulate ? 1.0F : 0.0F;
  const cublasStatus_t status = cublasLtMatmul(
      handle_of(stream.device), &description.operation, &one, product.w, &description.w, product.x,
      &description.x, &beta, product.out, &description.out, product.out, &description.out,
      &plan.algorithm, scratch(stream), workspace_bytes, native(stream));
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return false;
  cublas_check(status, "cublasLtMatmul");
  return true;
}

LinearWeight pack_linear(const TensorView& w, Device device, Stream stream) {
  LinearWeight packed;
  packed.data = Tensor(w.dtype(), device, {w.size(0), w.size(1)});
  packed.n = w.size(0);
  packed.k = w.size(1);
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

LinearWeight pack_linear_fp8(const TensorView& w, const TensorView& scales, float input_scale,
                             Device device, Stream stream) {
  check_fp8(w.size(0), w.size(1), device);
  LinearWeight packed = cuda::pack_linear(w, device, stream);
  packed.input_scale = input_scale;
  if (scales.rank() == 1) {
    packed.scales = Tensor(DType::f32, device, {scales.size(0)});
    copy(packed.scales, scales, stream);
  } else {
    const std::int64_t padded = ceil_div(scales.size(1), 4) * 4;
    packed.scales = Tensor(DType::f32, device, {scales.size(0), padded});
    const std::size_t row_bytes = static_cast<std::size_t>(scales.size(1)) * sizeof(float);
    cuda_check(cudaMemcpy2DAsync(packed.scales->data(),
                                 static_cast<std::size_t>(padded) * sizeof(float), scales.data(),
                                 row_bytes, row_bytes, static_cast<std::size_t>(scales.size(0)),
                                 cudaMemcpyDefault, native(stream)),
               "cudaMemcpy2DAsync");
  }
  cuda::synchronize(stream);
  return packed;
}

LinearWeight quantize_linear(const TensorView& w, Device device, Stream stream) {
  check_fp8(w.size(0), w.size(1), device);
  LinearWeight plain;
  if (w.device() != device) plain = cuda::pack_linear(w, device, stream);
  LinearWeight packed;
  packed.data = Tensor(DType::fp8_e4m3, device, {w.size(0), w.size(1)});
  packed.scales = Tensor(DType::f32, device, {w.size(0)});
  packed.n = w.size(0);
  packed.k = w.size(1);
  cuda::quantize({packed.data, packed.scales}, w.device() == device ? w : plain.data.view(),
                 stream);
  cuda::synchronize(stream);  // w and its copy may die now
  return packed;
}

void linear(const TensorView& out, const LinearInput& input, const LinearWeight& w,
            const TensorView& bias, bool accumulate, Stream stream) {
  const TensorView& x = input.values;
  const bool has_bias = bias.data() != nullptr;
  const bool fused_bias = has_bias && fuses_bias(out.dtype(), x.dtype(), w.scaling());
  Product product{};
  product.key = {w.scaling() == Fp8Scaling::blocks ? whole_groups(x.size(0)) : x.size(0),
                 w.n,
                 w.k,
                 x.dtype(),
                 out.dtype(),
                 fused_bias,
                 accumulate,
                 rows_are_packed(x) && rows_are_packed(out) && rows_are_packed(w.data) &&
                     rows_are_packed(bias),
                 w.scaling()};
  product.out = out.data();
  product.x = x.data();
  product.w = w.data->data();
  product.bias = bias.data();
  product.x_scales = static_cast<const float*>(input.scales.data());
  product.w_scales = static_cast<const float*>(w.scales->data());
  product.out_stride = out.stride(0);
  product.x_stride = x.stride(0);
  product.w_stride = w.k;
  if (!run_product(product, plan_of(product, stream.device), stream)) {
    // The bucket's algorithm does not take this very row count.
    const Candidates exact = find_algorithms(product, 1, stream.device);
    if (!run_product(product, {exact.results[0].algo}, stream)) {
      cublas_check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmul");
    }
  }
  if (has_bias && !fused_bias) add_bias(out, bias, stream);
}

}  // namespace millrace::cuda
