// What tests between GPUs start from: every rank with its GPU (gpu_of_rank.hpp), a stream there,
// and vectors to and from its memory.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "comm/environment.hpp"
#include "kernels/base/tensor.hpp"
#include "test/comm/gpu_of_rank.hpp"

namespace millrace {

class GpuRanks : public ::testing::Test {
 protected:
  static const Comm& world() {
    static const Environment environment;
    return environment.world();
  }
  static int rank() { return world().rank(); }
  static int ranks() { return world().size(); }
  static bool is_last() { return rank() == ranks() - 1; }
  static Device device() { return gpu_of_rank(rank()); }
  static bool have_gpus() { return have_gpus_for(ranks()); }

  // Lives as long as the process, as what tests leave on it may.
  static Stream stream() {
    static auto* owned = new OwnedStream(device());
    return owned->stream();
  }

  void SetUp() override {
    if (have_gpus()) return;
    if (cuda_device_count() == 0) GTEST_SKIP() << "skipped: no CUDA device";
    GTEST_SKIP() << "skipped: " << cuda_device_count() << " CUDA devices for " << ranks()
                 << " ranks";
  }

  // `offset` elements into an allocation.
  template <typename T>
  static Tensor on_gpu(DType dtype, const std::vector<T>& values, std::int64_t offset = 0) {
    const auto count = static_cast<std::int64_t>(values.size());
    Tensor tensor(dtype, device(), {count + offset});
    const TensorView to = tensor->slice(0, offset, count);
    copy_bytes(to.data(), device(), values.data(), Device::cpu(), to.bytes(), stream());
    synchronize(stream());
    return tensor;
  }
  template <typename T>
  static std::vector<T> on_host(const TensorView& view) {
    std::vector<T> values(view.bytes() / sizeof(T));
    copy_bytes(values.data(), Device::cpu(), view.data(), device(), view.bytes(), stream());
    synchronize(stream());
    return values;
  }
};

}  // namespace millrace
