// The four products of one Llama-3.1-8B layer, by cuBLASLt's first guess and by measured plans:
// fraction of the larger of the two floors, weight bytes over bandwidth and operations over the
// matmul rate.
#include "bench/kernels/gpu/gpu_bench.hpp"
#include "kernels/linear.hpp"
#include "kernels/linear_tuning.hpp"

namespace millrace::bench {

void bench_linear(const GpuBench& bench) {
  const std::int64_t shapes[4][2] = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};
  std::vector<LinearWeight> weights;
  double weight_bytes = 0;
  double elements = 0;
  for (const auto& [n, k] : shapes) {
    weights.push_back(
        pack_linear(bench.random(DType::bf16, {n, k}, 0.02F), bench.device(), bench.stream()));
    weight_bytes += static_cast<double>(weights.back().data->bytes());
    elements += static_cast<double>(n * k);
  }
  const std::vector<std::int64_t> row_counts = {1, 16, 64, 128, 256, 512, 2048};
  const auto layer_seconds = [&](std::int64_t m) {
    std::vector<Tensor> x;
    std::vector<Tensor> out;
    for (const auto& [n, k] : shapes) {
      x.push_back(bench.random(DType::bf16, {m, k}));
      out.push_back(bench.random(DType::bf16, {m, n}));
    }
    return bench.seconds([&] {
      for (std::size_t i = 0; i < weights.size(); ++i) {
        linear(out[i], x[i], weights[i], TensorView(), false, bench.stream());
      }
    });
  };
  const auto report = [&](const char* how, std::int64_t m, double seconds) {
    const double floor =
        std::max(weight_bytes / bench.copy_bytes_per_second(),
                 2 * static_cast<double>(m) * elements / bench.matmul_flops_per_second());
    fmt::print("{:<22} {:<48} {:>10.1f} us {:>30.1f} % of the floor\n", how,
               fmt::format("8B layer, {} rows bf16", m), seconds * 1e6, 100 * floor / seconds);
  };
  for (const std::int64_t m : row_counts) report("linear, first guess", m, layer_seconds(m));
  for (const LinearWeight& weight : weights) {
    tune_linear(weight, DType::bf16, false, false, row_counts, bench.stream());
  }
  for (const std::int64_t m : row_counts) report("linear, measured", m, layer_seconds(m));
}

}  // namespace millrace::bench
