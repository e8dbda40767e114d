// Quantization of rows on CUDA: one block a row.
#include "kernels/quantize.hpp"
#include "kernels/quantize_cuda.cuh"

namespace millrace::cuda {
namespace {

template <typename T>
struct Load {
  Rows<const T> x;

  template <int N>
  __device__ void values(std::int64_t row, int column, float (&y)[N]) const {
    const Pack<T, N> pack = load_pack<T, N>(x.row(row) + column);
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = to_float(pack.values[i]);
  }
};

}  // namespace

void quantize(const LinearInput& out, const TensorView& x, Stream stream) {
  with_float_type("quantize", x.dtype(), [&](auto element) {
    using T = decltype(element);
    quantize_map<pack_width<T>()>("quantize", Load<T>{rows_of<const T>(x)}, out, rows_are_packed(x),
                                  stream);
  });
}

}  // namespace millrace::cuda
