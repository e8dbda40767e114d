#include "kernels/base/check.hpp"

#include <fmt/ranges.h>

namespace millrace {

void check_tensor(std::string_view op, std::string_view tensor_name, const TensorView& tensor,
                  DType dtype, std::initializer_list<std::int64_t> shape) {
  bool fits = tensor.dtype() == dtype && tensor.rank() == static_cast<int>(shape.size());
  int dimension = 0;
  for (const std::int64_t size : shape) {
    fits = fits && (size < 0 || tensor.size(dimension) == size);
    ++dimension;
  }
  if (!fits) {
    throw ShapeError(fmt::format("{}: {} is {}, expected {} [{}]", op, tensor_name,
                                 tensor.describe(), name(dtype), fmt::join(shape, ", ")));
  }
}

}  // namespace millrace
