#include "bench/kernels/gpu/gpu_bench.hpp"

#include <random>
#include <stdexcept>

#include "kernels/linear.hpp"
#include "kernels/linear_tuning.hpp"

namespace millrace::bench {

GpuBench::GpuBench() {
  cudaDeviceProp properties{};
  cudaGetDeviceProperties(&properties, 0);
  int driver = 0;
  cudaDriverGetVersion(&driver);
  fmt::print("device {}, {} multiprocessors, driver {}\n", properties.name,
             properties.multiProcessorCount, driver);
  measure_ceilings();
}

namespace {

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

// Median over `repeats` of the seconds between events around `work`.
double median_seconds(const std::function<void()>& work, int repeats, Stream stream) {
  auto* handle = static_cast<cudaStream_t>(stream.handle);
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  std::vector<double> times;
  for (int repeat = -2; repeat < repeats; ++repeat) {  // two warm up
    check(cudaEventRecord(begin, handle));
    work();
    check(cudaEventRecord(end, handle));
    synchronize(stream);
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin, end));
    if (repeat >= 0) times.push_back(milliseconds * 1e-3);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + repeats / 2, times.end());
  return times[static_cast<std::size_t>(repeats / 2)];
}

}  // namespace

double GpuBench::seconds(const std::function<void()>& call, int calls, int repeats) const {
  auto* handle = static_cast<cudaStream_t>(stream().handle);
  call();  // first calls load modules and make plans
  synchronize(stream());
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(handle, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < calls; ++i) call();
  check(cudaStreamEndCapture(handle, &graph));
  cudaGraphExec_t replay = nullptr;
  check(cudaGraphInstantiate(&replay, graph, 0));
  const double seconds =
      median_seconds([&] { check(cudaGraphLaunch(replay, handle)); }, repeats, stream()) / calls;
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  return seconds;
}

Tensor GpuBench::random(DType dtype, std::initializer_list<std::int64_t> shape, float scale) const {
  constexpr std::size_t pattern_bytes = std::size_t{16} << 20;
  Tensor tensor(dtype, device(), shape);
  const std::size_t bytes = std::min(pattern_bytes, tensor->bytes());
  std::vector<char> pattern(bytes);
  std::mt19937 generator(1);
  std::normal_distribution<float> normal(0, scale);
  // A table of values is enough: what matters is that bits are not constant.
  std::vector<float> values(4096);
  for (float& value : values) value = normal(generator);
  const std::size_t elements = bytes / size_of(dtype);
  for (std::size_t i = 0; i < elements; ++i) {
    const float value = values[generator() % values.size()];
    switch (dtype) {
      case DType::bf16:
        reinterpret_cast<Bfloat16*>(pattern.data())[i] = to_bfloat16(value);
        break;
      case DType::f16:
        reinterpret_cast<Half*>(pattern.data())[i] = to_half(value);
        break;
      case DType::fp8_e4m3:
        reinterpret_cast<Fp8E4m3*>(pattern.data())[i] = to_fp8_e4m3(value);
        break;
      default:
        reinterpret_cast<float*>(pattern.data())[i] = value;
    }
  }
  for (std::size_t at = 0; at < tensor->bytes(); at += bytes) {
    copy_bytes(static_cast<char*>(tensor->data()) + at, device(), pattern.data(), Device::cpu(),
               std::min(bytes, tensor->bytes() - at), stream());
  }
  synchronize(stream());
  return tensor;
}

Tensor GpuBench::ints(const std::vector<std::int32_t>& values) const {
  Tensor tensor(DType::i32, device(), {static_cast<std::int64_t>(values.size())});
  copy_bytes(tensor->data(), device(), values.data(), Device::cpu(), tensor->bytes(), stream());
  synchronize(stream());
  return tensor;
}

void GpuBench::measure_ceilings() {
  const std::int64_t bytes = std::int64_t{1} << 30;
  const Tensor from = random(DType::f32, {bytes / 4});
  const Tensor to = random(DType::f32, {bytes / 4});
  copy_rate_ = 2.0 * static_cast<double>(bytes) /
               median_seconds([&] { copy(to, from, stream()); }, 9, stream());
  const std::int64_t n = 8192;
  const Tensor x = random(DType::bf16, {n, n});
  const Tensor out = random(DType::bf16, {n, n});
  const LinearWeight w = pack_linear(random(DType::bf16, {n, n}), device(), stream());
  tune_linear(w, DType::bf16, false, false, {n}, stream());
  matmul_rate_ =
      2.0 * static_cast<double>(n * n * n) /
      median_seconds([&] { linear(out, x, w, TensorView(), false, stream()); }, 9, stream());
  fmt::print("ceilings: copy {:.0f} GB/s (read + written), bf16 matmul {}^3 {:.0f} TFLOP/s\n",
             copy_rate_ * 1e-9, n, matmul_rate_ * 1e-12);
}

void GpuBench::report(const std::string& op, const std::string& shape, double seconds, double rate,
                      double ceiling, const char* unit) const {
  fmt::print("{:<22} {:<48} {:>10.1f} us {:>8.1f} {} {:>6.1f} %\n", op, shape, seconds * 1e6, rate,
             unit, 100 * rate / ceiling);
  std::fflush(stdout);
}

void GpuBench::report_bytes(const std::string& op, const std::string& shape, double seconds,
                            double bytes) const {
  report(op, shape, seconds, bytes / seconds * 1e-9, copy_rate_ * 1e-9, "GB/s   ");
}

void GpuBench::report_flops(const std::string& op, const std::string& shape, double seconds,
                            double flops) const {
  report(op, shape, seconds, flops / seconds * 1e-12, matmul_rate_ * 1e-12, "TFLOP/s");
}

}  // namespace millrace::bench

int main(int argc, char** argv) {
  using namespace millrace::bench;
  if (millrace::cuda_device_count() == 0) {
    fmt::print("skipped: no CUDA device\n");
    return 0;
  }
  const std::string only = argc > 1 ? argv[1] : "";
  const GpuBench bench;
  if (only.empty() || only == "rows") bench_rows(bench);
  if (only.empty() || only == "sampling") bench_sampling(bench);
  if (only.empty() || only == "decode") bench_decode_attention(bench);
  if (only.empty() || only == "prefill") bench_prefill_attention(bench);
  if (only.empty() || only == "linear") bench_linear(bench);
}
