#include "kernels/base/cuda_check.hpp"
#include "kernels/copy_rows.hpp"

namespace millrace::cuda {

void copy_rows(const TensorView& out, const TensorView& x, Stream stream) {
  const std::size_t element = size_of(x.dtype());
  const auto pitch = [&](const TensorView& view) {
    return static_cast<std::size_t>(view.stride(0)) * element;
  };
  cuda_check(
      cudaMemcpy2DAsync(out.data(), pitch(out), x.data(), pitch(x),
                        static_cast<std::size_t>(x.size(1)) * element,
                        static_cast<std::size_t>(x.size(0)), cudaMemcpyDefault, native(stream)),
      "cudaMemcpy2DAsync");
}

}  // namespace millrace::cuda
