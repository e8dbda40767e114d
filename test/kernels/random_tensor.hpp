// Tensors filled with repeatable random numbers, and whole-tensor comparisons, for the kernels'
// tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/base/error.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

inline const Stream cpu_stream{};

// Normal numbers, rounded to `dtype` (f32, bf16, f16 or fp8).
inline Tensor random_tensor(DType dtype, std::initializer_list<std::int64_t> shape, unsigned seed,
                            float scale = 1) {
  Tensor tensor(dtype, Device::cpu(), shape);
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, scale);
  for (std::int64_t i = 0; i < tensor->numel(); ++i) {
    const float value = normal(generator);
    if (dtype == DType::f32) tensor->as<float>()[i] = value;
    if (dtype == DType::bf16) tensor->as<Bfloat16>()[i] = to_bfloat16(value);
    if (dtype == DType::f16) tensor->as<Half>()[i] = to_half(value);
    if (dtype == DType::fp8_e4m3) tensor->as<Fp8E4m3>()[i] = to_fp8_e4m3(value);
  }
  return tensor;
}

// Every byte 0xff: NaN as a float, -1 as an integer. What an op fails to write shows.
inline Tensor poisoned(DType dtype, std::initializer_list<std::int64_t> shape) {
  Tensor tensor(dtype, Device::cpu(), shape);
  std::memset(tensor->data(), 0xff, tensor->bytes());
  return tensor;
}

template <typename T>
Tensor tensor_of(DType dtype, std::initializer_list<std::int64_t> shape,
                 const std::vector<T>& values) {
  Tensor tensor(dtype, Device::cpu(), shape);
  EXPECT_EQ(static_cast<std::int64_t>(values.size()), tensor->numel());
  for (std::size_t i = 0; i < values.size(); ++i) tensor->as<T>()[i] = values[i];
  return tensor;
}

inline Tensor floats(std::initializer_list<std::int64_t> shape, const std::vector<float>& values) {
  return tensor_of(DType::f32, shape, values);
}

inline Tensor ints(const std::vector<std::int32_t>& values) {
  return tensor_of(DType::i32, {static_cast<std::int64_t>(values.size())}, values);
}

// Element i of contiguous memory, widened from any float dtype.
inline float element(const TensorView& tensor, std::int64_t i) {
  if (tensor.dtype() == DType::bf16) return to_float(tensor.as<Bfloat16>()[i]);
  if (tensor.dtype() == DType::f16) return to_float(tensor.as<Half>()[i]);
  if (tensor.dtype() == DType::fp8_e4m3) return to_float(tensor.as<Fp8E4m3>()[i]);
  return tensor.as<float>()[i];
}

// The value that `dtype` holds for it.
inline float rounded(float value, DType dtype) {
  if (dtype == DType::bf16) return to_float(to_bfloat16(value));
  if (dtype == DType::f16) return to_float(to_half(value));
  return dtype == DType::fp8_e4m3 ? to_float(to_fp8_e4m3(value)) : value;
}

inline std::vector<float> to_vector(const TensorView& tensor) {
  EXPECT_TRUE(tensor.is_contiguous());
  return {tensor.as<float>(), tensor.as<float>() + tensor.numel()};
}

// The same bytes, row by row of a matrix.
inline bool same_bits(const TensorView& a, const TensorView& b) {
  const auto row_bytes = static_cast<std::size_t>(a.size(1)) * size_of(a.dtype());
  for (std::int64_t i = 0; i < a.size(0); ++i) {
    const auto* row_a = static_cast<const char*>(a.slice(0, i, 1).data());
    if (std::memcmp(row_a, b.slice(0, i, 1).data(), row_bytes) != 0) return false;
  }
  return a.size(0) == b.size(0) && a.size(1) == b.size(1);
}

// The largest |a - b| of two f32 matrices; NaN if there is one.
inline float largest_difference(const TensorView& a, const TensorView& b) {
  float largest = 0;
  for (std::int64_t i = 0; i < a.size(0); ++i) {
    for (std::int64_t j = 0; j < a.size(1); ++j) {
      const float difference =
          std::fabs(a.as<float>()[i * a.stride(0) + j] - b.as<float>()[i * b.stride(0) + j]);
      if (!(difference <= largest)) largest = difference;
      if (std::isnan(difference)) return difference;
    }
  }
  return largest;
}

// The message of the ShapeError that `call` throws, or "" when it throws none.
template <typename Call>
std::string shape_error(Call call) {
  try {
    call();
  } catch (const ShapeError& error) {
    return error.what();
  }
  return "";
}

}  // namespace millrace
