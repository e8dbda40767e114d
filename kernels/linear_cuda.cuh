// How a product runs on cuBLASLt: what identifies it, and the plans that were chosen for it.
#pragma once

#include <cublasLt.h>

#include <compare>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels/base/cuda_types.cuh"
#include "kernels/linear_input.hpp"
#include "kernels/linear_stream.hpp"
#include "kernels/linear_tuning.hpp"

namespace millrace::cuda {

inline void cublas_check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_ALLOC_FAILED) throw_out_of_device_memory(call);
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw std::runtime_error(std::string(call) + ": " + cublasLtGetStatusName(status));
  }
}

// Everything that a choice of algorithm may depend on.
struct ProductKey {
  std::int64_t m = 0, n = 0, k = 0;  // m: of the bucket (row_bucket)
  DType dtype = DType::f32, out_dtype = DType::f32;
  bool bias = false, accumulate = false;
  bool packed = false;  // all operands aligned to 16 bytes
  Fp8Scaling scaling = Fp8Scaling::none;

  auto operator<=>(const ProductKey&) const = default;
};

// out [m, n] = x [m, k] * w [n, k]^T with row strides in elements.
struct Product {
  ProductKey key;  // with the true m
  void* out;
  const void* x;
  const void* w;
  const void* bias;
  const float *x_scales, *w_scales;  // of fp8
  std::int64_t out_stride, x_stride, w_stride;
};

// How a bucket's products run.
struct ProductPlan {
  cublasLtMatmulAlgo_t algorithm{};  // unless streamed
  bool streamed = false;             // by linear_stream.hpp
};

// True when cuBLASLt adds the bias itself: it takes one of out's type, and not every other.
bool fuses_bias(DType out_dtype, DType x_dtype, Fp8Scaling scaling);

// Enqueues the product as planned; false when cuBLASLt or the streaming kernel refuses the pair.
bool run_product(const Product& product, const ProductPlan& plan, Stream stream);

// Up to `most` algorithms, best guess first, for the product's own m. Throws when there is none.
struct Candidates {
  static constexpr int most = 16;
  cublasLtMatmulHeuristicResult_t results[most];
  int count = 0;
};
Candidates find_algorithms(const Product& product, int most, Device device);

// The plan for the product's bucket: a tuned or remembered one, else cuBLASLt's first guess, which
// is then remembered.
ProductPlan plan_of(const Product& product, Device device);
void remember_plan(const ProductKey& key, const ProductPlan& plan, bool tuned);
bool has_tuned_plan(const ProductKey& key);

}  // namespace millrace::cuda
