#include "kernels/base/tensor.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "kernels/base/error.hpp"

namespace millrace {

TensorView::TensorView(void* data, DType dtype, Device device,
                       std::initializer_list<std::int64_t> shape)
    : data_(data), dtype_(dtype), device_(device), rank_(static_cast<int>(shape.size())) {
  if (rank_ > max_rank) throw ShapeError(fmt::format("a tensor of {} dimensions", rank_));
  std::copy(shape.begin(), shape.end(), shape_.begin());
  std::int64_t stride = 1;
  for (int d = rank_ - 1; d >= 0; --d) {
    strides_[static_cast<std::size_t>(d)] = stride;
    stride *= size(d);
  }
}

std::int64_t TensorView::numel() const {
  std::int64_t count = 1;
  for (int d = 0; d < rank_; ++d) count *= size(d);
  return count;
}

bool TensorView::is_contiguous() const {
  std::int64_t expected = 1;
  for (int d = rank_ - 1; d >= 0; --d) {
    if (size(d) != 1 && stride(d) != expected) return false;
    expected *= size(d);
  }
  return true;
}

TensorView TensorView::slice(int dimension, std::int64_t begin, std::int64_t count) const {
  if (dimension < 0 || dimension >= rank_ || begin < 0 || count < 0 ||
      begin + count > size(dimension)) {
    throw ShapeError(fmt::format("slice [{}, {}) of dimension {} of {}", begin, begin + count,
                                 dimension, describe()));
  }
  TensorView part = *this;
  part.shape_[static_cast<std::size_t>(dimension)] = count;
  part.data_ = static_cast<char*>(data_) +
               begin * stride(dimension) * static_cast<std::int64_t>(size_of(dtype_));
  return part;
}

TensorView TensorView::reshape(std::initializer_list<std::int64_t> shape) const {
  const TensorView view(data_, dtype_, device_, shape);
  if (!is_contiguous() || view.numel() != numel()) {
    throw ShapeError(fmt::format("cannot reshape {} to [{}]", describe(), fmt::join(shape, ", ")));
  }
  return view;
}

std::string TensorView::describe() const {
  return fmt::format("{} [{}] on {}", name(dtype_),
                     fmt::join(shape_.begin(), shape_.begin() + rank_, ", "), to_string(device_));
}

void TensorView::require_dtype(DType expected) const {
  if (dtype_ != expected) {
    throw ShapeError(fmt::format("{} read as {}", describe(), name(expected)));
  }
}

Tensor::Tensor(DType dtype, Device device, std::initializer_list<std::int64_t> shape)
    : buffer_(TensorView(nullptr, dtype, device, shape).bytes(), device),
      view_(buffer_.data(), dtype, device, shape) {}

void copy(const TensorView& to, const TensorView& from, Stream stream) {
  if (to.dtype() != from.dtype() || to.numel() != from.numel() || !to.is_contiguous() ||
      !from.is_contiguous()) {
    throw ShapeError(fmt::format("copy of {} to {}", from.describe(), to.describe()));
  }
  copy_bytes(to.data(), to.device(), from.data(), from.device(), from.bytes(), stream);
}

}  // namespace millrace
