// For tests that hold a CUDA op to its CPU oracle: the same values on both, outputs poisoned
// before, and comparison with the tolerance that the dtype's rounding explains.
#pragma once

#include "test/kernels/random_tensor.hpp"

namespace millrace {

// Skips where there is no GPU. One stream for the whole process: its scratch is allocated once.
class OnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "skipped: no CUDA device";
  }

  static Stream stream() {
    static OwnedStream* owned = new OwnedStream(Device::cuda(0));
    return owned->stream();
  }
};

inline void contiguous_copy(const TensorView& to, const TensorView& from, Stream stream) {
  copy(to, from, stream);
  synchronize(stream);
}

// A contiguous copy of all elements on the GPU.
inline Tensor to_gpu(const Tensor& tensor, Stream stream) {
  const TensorView& view = tensor;
  Tensor copied;
  switch (view.rank()) {
    case 1:
      copied = Tensor(view.dtype(), stream.device, {view.size(0)});
      break;
    case 2:
      copied = Tensor(view.dtype(), stream.device, {view.size(0), view.size(1)});
      break;
    default:
      copied = Tensor(view.dtype(), stream.device,
                      {view.size(0), view.size(1), view.size(2), view.size(3)});
  }
  if (view.numel() > 0) contiguous_copy(copied, view, stream);
  return copied;
}

inline Tensor poisoned_on_gpu(DType dtype, std::initializer_list<std::int64_t> shape,
                              Stream stream) {
  Tensor tensor(dtype, stream.device, shape);
  fill_bytes(tensor->data(), 0xff, tensor->bytes(), stream);
  return tensor;
}

// The elements as raw host memory of the same dtype, flat. Rows of a matrix view may be strided.
inline Tensor to_host(const TensorView& view, Stream stream) {
  Tensor host(view.dtype(), Device::cpu(), {view.numel()});
  if (view.is_contiguous()) {
    copy_bytes(host->data(), Device::cpu(), view.data(), view.device(), view.bytes(), stream);
  } else {
    const auto row_bytes = static_cast<std::size_t>(view.size(1)) * size_of(view.dtype());
    for (std::int64_t i = 0; i < view.size(0); ++i) {
      copy_bytes(static_cast<char*>(host->data()) + static_cast<std::size_t>(i) * row_bytes,
                 Device::cpu(), view.slice(0, i, 1).data(), view.device(), row_bytes, stream);
    }
  }
  synchronize(stream);
  return host;
}

// Any float dtype as f32, in the tensor's shape made flat.
inline std::vector<float> widened(const TensorView& view) {
  std::vector<float> values(static_cast<std::size_t>(view.numel()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    switch (view.dtype()) {
      case DType::bf16:
        values[i] = to_float(view.as<Bfloat16>()[i]);
        break;
      case DType::f16:
        values[i] = to_float(view.as<Half>()[i]);
        break;
      case DType::fp8_e4m3:
        values[i] = to_float(view.as<Fp8E4m3>()[i]);
        break;
      default:
        values[i] = view.as<float>()[i];
    }
  }
  return values;
}

// The same matrix or vector as f32 on the CPU, for the oracle.
inline Tensor widened_tensor(const TensorView& view) {
  Tensor tensor = view.rank() == 1
                      ? Tensor(DType::f32, Device::cpu(), {view.size(0)})
                      : Tensor(DType::f32, Device::cpu(), {view.size(0), view.size(1)});
  const std::vector<float> values = widened(view);
  std::copy(values.begin(), values.end(), tensor->as<float>());
  return tensor;
}

// The largest relative error of one rounding to nearest.
inline float rounding(DType dtype) {
  switch (dtype) {
    case DType::bf16:
      return 0x1p-8F;
    case DType::f16:
      return 0x1p-11F;
    case DType::fp8_e4m3:
      return 0x1p-4F;
    default:
      return 0x1p-24F;
  }
}

// Every element of `result` (on the GPU) is within `units` roundings of its own size, or of
// `floor`, of the f32 oracle's. NaN never passes.
inline testing::AssertionResult near_oracle(const TensorView& result, const TensorView& oracle,
                                            float units, float floor, Stream stream) {
  const Tensor host = to_host(result, stream);
  const std::vector<float> got = widened(host);
  if (static_cast<std::int64_t>(got.size()) != oracle.numel()) {
    return testing::AssertionFailure() << result.describe() << " against " << oracle.describe();
  }
  const float unit = units * rounding(result.dtype());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const float want = oracle.as<float>()[i];
    const float allowed = unit * std::max(std::fabs(want), floor);
    if (!(std::fabs(got[i] - want) <= allowed)) {
      return testing::AssertionFailure() << "element " << i << " of " << result.describe() << " is "
                                         << got[i] << ", expected " << want << " +- " << allowed;
    }
  }
  return testing::AssertionSuccess();
}

inline const DType float_types[] = {DType::f32, DType::bf16, DType::f16};

}  // namespace millrace
