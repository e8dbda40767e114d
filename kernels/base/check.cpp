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

void check_activation(std::string_view op, std::string_view tensor_name, const TensorView& tensor,
                      std::initializer_list<std::int64_t> shape) {
  const DType dtype = tensor.dtype();
  const bool half = dtype == DType::f16 || dtype == DType::bf16;
  const bool expected_f32 = tensor.device().is_cpu() || !half;
  check_tensor(op, tensor_name, tensor, expected_f32 ? DType::f32 : dtype, shape);
  const int last = tensor.rank() - 1;
  if (last >= 0 && tensor.size(last) > 1 && tensor.stride(last) != 1) {
    throw ShapeError(fmt::format("{}: {} is {} whose innermost stride is {}, expected 1", op,
                                 tensor_name, tensor.describe(), tensor.stride(last)));
  }
}

void check_contiguous(std::string_view op, std::string_view tensor_name, const TensorView& tensor) {
  if (!tensor.is_contiguous()) {
    throw ShapeError(fmt::format("{}: {} is {} with gaps, expected contiguous", op, tensor_name,
                                 tensor.describe()));
  }
}

void check_device(std::string_view op, Stream stream, std::initializer_list<NamedTensor> tensors) {
  for (const NamedTensor& named : tensors) {
    if (named.tensor.data() != nullptr && named.tensor.device() != stream.device) {
      throw ShapeError(fmt::format("{}: {} is {}, expected on {}", op, named.name,
                                   named.tensor.describe(), to_string(stream.device)));
    }
  }
}

}  // namespace millrace
