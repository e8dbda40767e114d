// The four products of one Llama-3.1-8B layer in bf16 and fp8, by cuBLASLt's first guess and by
// measured plans: fraction of the larger of the two floors, weight bytes over bandwidth and
// operations over the matmul rate (fp8's is taken as twice that of bf16). An fp8 layer's time has
// the quantization of its inputs in it.
#include "bench/kernels/gpu/gpu_bench.hpp"
#include "kernels/linear.hpp"
#include "kernels/linear_tuning.hpp"
#include "kernels/quantize.hpp"

namespace millrace::bench {
namespace {

struct Format {
  const char* name;
  Fp8Scaling scaling;
};

const std::vector<std::int64_t> row_counts = {1, 16, 64, 128, 256, 512, 1024, 8192};

class Layer {
 public:
  Layer(const GpuBench& bench, Format format) : bench_(bench), format_(format) {
    const std::int64_t shapes[4][2] = {{6144, 4096}, {4096, 4096}, {28672, 4096}, {4096, 14336}};
    for (const auto& [n, k] : shapes) weights_.push_back(make_weight(n, k));
  }

  void report(const char* how) const {
    for (const std::int64_t m : row_counts) {
      double bytes = 0;
      double operations = 0;
      for (const LinearWeight& weight : weights_) {
        bytes += static_cast<double>(weight.bytes());
        operations += 2 * static_cast<double>(m * weight.n * weight.k);
      }
      const double rate =
          bench_.matmul_flops_per_second() * (format_.scaling == Fp8Scaling::none ? 1 : 2);
      const double floor = std::max(bytes / bench_.copy_bytes_per_second(), operations / rate);
      const double time = seconds(m);
      fmt::print("{:<22} {:<48} {:>10.1f} us {:>8.1f} TFLOP/s {:>18.1f} % of the floor\n", how,
                 fmt::format("8B layer, {} rows {}", m, format_.name), time * 1e6,
                 operations / time * 1e-12, 100 * floor / time);
      std::fflush(stdout);
    }
  }

  void tune() const {
    for (const LinearWeight& weight : weights_) {
      tune_linear(weight, DType::bf16, false, false, row_counts, bench_.stream());
    }
  }

 private:
  LinearWeight make_weight(std::int64_t n, std::int64_t k) const {
    const Tensor w = bench_.random(DType::bf16, {n, k}, 0.02F);
    if (format_.scaling == Fp8Scaling::none)
      return pack_linear(w, bench_.device(), bench_.stream());
    LinearWeight rows = quantize_linear(w, bench_.device(), bench_.stream());
    if (format_.scaling == Fp8Scaling::rows) return rows;
    const Tensor scales(DType::f32, Device::cpu(), {scale_blocks(n), scale_blocks(k)});
    std::fill_n(scales->as<float>(), scales->numel(), 1e-4F);
    return pack_linear_fp8(rows.data, scales, 0, bench_.device(), bench_.stream());
  }

  double seconds(std::int64_t m) const {
    std::vector<Tensor> x;
    std::vector<Tensor> out;
    std::vector<LinearInput> inputs;
    const std::int64_t rows = whole_groups(m);
    const Tensor values(DType::fp8_e4m3, bench_.device(), {rows, 14336});
    const Tensor scales(DType::f32, bench_.device(), {rows * scale_blocks(14336)});
    for (const LinearWeight& weight : weights_) {
      x.push_back(bench_.random(DType::bf16, {rows, weight.k}));
      out.push_back(bench_.random(DType::bf16, {rows, weight.n}));
      const TensorView fp8(values->data(), DType::fp8_e4m3, bench_.device(), {m, weight.k});
      if (format_.scaling == Fp8Scaling::none) {
        inputs.emplace_back(x.back()->slice(0, 0, m));
      } else if (format_.scaling == Fp8Scaling::rows) {
        inputs.emplace_back(fp8, scales->slice(0, 0, m));
      } else {
        const std::int64_t blocks = scale_blocks(weight.k);
        inputs.emplace_back(fp8, scales->slice(0, 0, blocks * rows).reshape({blocks, rows}));
      }
    }
    return bench_.seconds([&] {
      for (std::size_t i = 0; i < weights_.size(); ++i) {
        if (inputs[i].is_quantized()) {
          quantize(inputs[i], x[i]->slice(0, 0, m), bench_.stream());
        }
        linear(out[i]->slice(0, 0, m), inputs[i], weights_[i], TensorView(), false,
               bench_.stream());
      }
    });
  }

  const GpuBench& bench_;
  Format format_;
  std::vector<LinearWeight> weights_;
};

}  // namespace

void bench_linear(const GpuBench& bench) {
  for (const Format& format : {Format{"bf16", Fp8Scaling::none}, Format{"fp8", Fp8Scaling::rows},
                               Format{"fp8 blocks", Fp8Scaling::blocks}}) {
    const Layer layer(bench, format);
    layer.report("linear, first guess");
    layer.tune();
    layer.report("linear, measured");
  }
}

}  // namespace millrace::bench
