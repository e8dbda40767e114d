#include "bench/throughput/ceilings.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "kernels/linear.hpp"
#include "kernels/linear_tuning.hpp"
#include "kernels/quantize.hpp"

namespace millrace::bench {

namespace {

double median_seconds(const std::function<void()>& call, Stream stream) {
  constexpr int warm_up = 2;
  constexpr int repeats = 9;
  std::vector<double> times;
  for (int i = -warm_up; i < repeats; ++i) {
    synchronize(stream);
    const auto start = std::chrono::steady_clock::now();
    call();
    synchronize(stream);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (i >= 0) times.push_back(elapsed.count());
  }
  std::ranges::nth_element(times, times.begin() + repeats / 2);
  return times[repeats / 2];
}

// A tensor of normally distributed elements, a few thousand of them over and over: a device that
// multiplies zeros is faster than one that works.
Tensor random(DType dtype, Device device, std::int64_t rows, std::int64_t columns, Stream stream) {
  constexpr std::size_t pattern_elements = std::size_t{1} << 20;
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(4096);
  for (float& value : values) value = normal(generator);
  std::vector<char> pattern(pattern_elements * size_of(dtype));
  for (std::size_t i = 0; i < pattern_elements; ++i) {
    const float value = values[generator() % values.size()];
    char* to = pattern.data() + i * size_of(dtype);
    if (dtype == DType::bf16) {
      const Bfloat16 element = to_bfloat16(value);
      std::memcpy(to, &element, sizeof(element));
    } else if (dtype == DType::f16) {
      const Half element = to_half(value);
      std::memcpy(to, &element, sizeof(element));
    } else {
      std::memcpy(to, &value, sizeof(value));
    }
  }
  Tensor tensor(dtype, device, {rows, columns});
  for (std::size_t at = 0; at < tensor->bytes(); at += pattern.size()) {
    copy_bytes(static_cast<char*>(tensor->data()) + at, device, pattern.data(), Device::cpu(),
               std::min(pattern.size(), tensor->bytes() - at), stream);
  }
  synchronize(stream);
  return tensor;
}

double matmul_rate(const LinearInput& x, const LinearWeight& w, const TensorView& out,
                   Stream stream) {
  tune_linear(w, out.dtype(), false, false, {w.n}, stream);
  return 2.0 * static_cast<double>(w.n * w.n * w.n) /
         median_seconds([&] { linear(out, x, w, {}, false, stream); }, stream);
}

}  // namespace

Ceilings measure_ceilings(Device device, DType weights, bool fp8) {
  const OwnedStream owned(device);
  const Stream stream = owned.stream();
  Ceilings ceilings;
  {
    const std::int64_t floats = device.is_cuda() ? std::int64_t{1} << 28 : std::int64_t{1} << 25;
    const Tensor from = random(DType::f32, device, floats, 1, stream);
    const Tensor to = random(DType::f32, device, floats, 1, stream);
    ceilings.copy_bytes_per_second = 2 * static_cast<double>(from->bytes()) /
                                     median_seconds([&] { copy(to, from, stream); }, stream);
  }
  const std::int64_t n = device.is_cuda() ? 8192 : 1024;
  const DType activations = device.is_cuda() ? weights : DType::f32;
  const Tensor x = random(activations, device, n, n, stream);
  const Tensor out(activations, device, {n, n});
  const Tensor plain = random(weights, device, n, n, stream);
  ceilings.head_flops_per_second = matmul_rate(x, pack_linear(plain, device, stream), out, stream);
  ceilings.matmul_flops_per_second = ceilings.head_flops_per_second;
  if (fp8) {
    const Tensor values(DType::fp8_e4m3, device, {n, n});
    const Tensor scales(DType::f32, device, {n});
    const LinearInput quantized(values, scales);
    quantize(quantized, x, stream);
    ceilings.matmul_flops_per_second =
        matmul_rate(quantized, quantize_linear(plain, device, stream), out, stream);
  }
  return ceilings;
}

}  // namespace millrace::bench
