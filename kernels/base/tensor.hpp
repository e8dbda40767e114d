// TensorView: a typed, shaped reference to memory that somebody else owns. Tensor: one that owns
// it. Up to four dimensions, outermost first; the innermost is contiguous, the others have strides,
// so a block of columns of a matrix is a view too. Shapes in comments read [outer, ..., inner].
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "kernels/base/buffer.hpp"
#include "kernels/base/device.hpp"
#include "kernels/base/dtype.hpp"

namespace millrace {

class TensorView {
 public:
  static constexpr int max_rank = 4;

  TensorView() = default;
  // A contiguous tensor over `data`.
  TensorView(void* data, DType dtype, Device device, std::initializer_list<std::int64_t> shape);

  void* data() const { return data_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  int rank() const { return rank_; }
  std::int64_t size(int dimension) const { return shape_[static_cast<std::size_t>(dimension)]; }
  std::int64_t stride(int dimension) const { return strides_[static_cast<std::size_t>(dimension)]; }
  std::int64_t numel() const;
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype_); }
  bool is_contiguous() const;
  bool empty() const { return data_ == nullptr || numel() == 0; }

  // The data as T. Throws ShapeError when T is not the dtype's host type.
  template <typename T>
  T* as() const {
    check_type<T>();
    return static_cast<T*>(data_);
  }

  // Rows [begin, begin + count) of the given dimension; same strides.
  TensorView slice(int dimension, std::int64_t begin, std::int64_t count) const;
  // The same elements in another shape. Needs a contiguous tensor of as many elements.
  TensorView reshape(std::initializer_list<std::int64_t> shape) const;

  // "float32 [3, 576] on cpu", for error messages.
  std::string describe() const;

 private:
  template <typename T>
  void check_type() const;
  void require_dtype(DType expected) const;

  void* data_ = nullptr;
  DType dtype_ = DType::f32;
  Device device_;
  int rank_ = 0;
  std::array<std::int64_t, max_rank> shape_{};
  std::array<std::int64_t, max_rank> strides_{};
};

class Tensor {
 public:
  Tensor() = default;
  // Uninitialised.
  Tensor(DType dtype, Device device, std::initializer_list<std::int64_t> shape);

  const TensorView& view() const { return view_; }
  operator const TensorView&() const { return view_; }  // NOLINT: a Tensor is a view that owns
  const TensorView* operator->() const { return &view_; }

 private:
  Buffer buffer_;
  TensorView view_;
};

// Copies all elements; shapes and dtypes must be equal, both contiguous.
void copy(const TensorView& to, const TensorView& from, Stream stream);

template <typename T>
void TensorView::check_type() const {
  if constexpr (std::is_same_v<std::remove_const_t<T>, float>) {
    require_dtype(DType::f32);
  } else if constexpr (std::is_same_v<std::remove_const_t<T>, Half>) {
    require_dtype(DType::f16);
  } else if constexpr (std::is_same_v<std::remove_const_t<T>, Bfloat16>) {
    require_dtype(DType::bf16);
  } else if constexpr (std::is_same_v<std::remove_const_t<T>, Fp8E4m3>) {
    require_dtype(DType::fp8_e4m3);
  } else if constexpr (std::is_same_v<std::remove_const_t<T>, std::int32_t>) {
    require_dtype(DType::i32);
  } else if constexpr (std::is_same_v<std::remove_const_t<T>, std::int64_t>) {
    require_dtype(DType::i64);
  } else {
    static_assert(sizeof(T) == 1, "no dtype has this host type");
  }
}

}  // namespace millrace
