// Shape checks, made once in an op's front before it dispatches; kernels then stay pure math.
#pragma once

#include <fmt/format.h>

#include <string_view>

#include "kernels/base/error.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

// Throws ShapeError "<op>: <what>" when the condition is false.
inline void check(bool condition, std::string_view op, std::string_view what) {
  if (!condition) throw ShapeError(fmt::format("{}: {}", op, what));
}

// Throws ShapeError naming the tensor when it is not `dtype` with the given shape (-1: any size).
void check_tensor(std::string_view op, std::string_view name, const TensorView& tensor, DType dtype,
                  std::initializer_list<std::int64_t> shape);

// The same for activations and small parameters (norm weights, biases): f32 on the CPU; f32, f16 or
// bf16 on CUDA. The innermost dimension must be contiguous.
void check_activation(std::string_view op, std::string_view name, const TensorView& tensor,
                      std::initializer_list<std::int64_t> shape);

// Throws ShapeError naming the tensor when it is not contiguous.
void check_contiguous(std::string_view op, std::string_view name, const TensorView& tensor);

// Throws ShapeError naming the first tensor that lies on another device than the stream. Empty
// views (an absent bias) are skipped.
struct NamedTensor {
  std::string_view name;
  const TensorView& tensor;
};
void check_device(std::string_view op, Stream stream, std::initializer_list<NamedTensor> tensors);

}  // namespace millrace
