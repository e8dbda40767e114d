// Quantization of rows on CUDA: one block a row.
#include "kernels/quantize.hpp"
#include "kernels/quantize_cuda.cuh"

namespace millrace::cuda {
namespace {

template <typename T>
struct Load {
  Rows<const T> x;

  template <int N>
  __device__ Loaded<T, N> load(std::int64_t row, int column) const {
    return cuda::load<T, N>(x.row(row) + column);
  }
  template <int N>
  static __device__ void values(const Loaded<T, N>& loaded, float (&y)[N]) {
    widen(loaded, y);
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
