// The four products of one Llama-3.1-8B layer in bf16 and fp8, by cuBLASLt's first guess and by
// measured plans: fraction of the larger of the two floors, weight bytes over bandwidth and
// operations over the matmul rate (fp8's is taken as twice that of bf16). An fp8 layer's time has
// the quantization of its inputs in it. Then the same products of bf16 with a step's small ops
// between them, all but attention's: what a decode layer pays beside attention.
#include "bench/kernels/gpu/gpu_bench.hpp"
#include "kernels/activation.hpp"
#include "kernels/linear.hpp"
#include "kernels/linear_tuning.hpp"
#include "kernels/norm.hpp"
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
    report(how, "", [&](std::int64_t m) { return seconds(m); });
  }

  void report_with_small_ops(const char* how) const {
    report(how, " with small ops", [&](std::int64_t m) { return seconds_with_small_ops(m); });
  }

  void tune() const {
    for (const LinearWeight& weight : weights_) {
      tune_linear(weight, DType::bf16, false, false, row_counts, bench_.stream());
    }
  }

 private:
  template <typename Seconds>
  void report(const char* how, const char* what, Seconds&& seconds_of) const {
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
      const double time = seconds_of(m);
      fmt::print("{:<22} {:<48} {:>10.1f} us {:>8.1f} TFLOP/s {:>18.1f} % of the floor\n", how,
                 fmt::format("8B layer{}, {} rows {}", what, m, format_.name), time * 1e6,
                 operations / time * 1e-12, 100 * floor / time);
      std::fflush(stdout);
    }
  }

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

  // norm, qkv, (attention's place: an activation), o, sum and norm, gate and up, activation, down.
  double seconds_with_small_ops(std::int64_t m) const {
    const auto rows = [&](std::int64_t width) { return bench_.random(DType::bf16, {m, width}); };
    const Tensor x = rows(4096);
    const Tensor update = rows(4096);
    const Tensor normalised = rows(4096);
    const Tensor qkv = rows(6144);
    const Tensor context = rows(4096);
    const Tensor gate_up = rows(28672);
    const Tensor inner = rows(14336);
    const Tensor weight = bench_.random(DType::bf16, {4096});
    const NormWeights norm_weights{NormKind::rms, weight, {}, 1e-5F, 0};
    const Stream stream = bench_.stream();
    return bench_.seconds([&] {
      add_norm(normalised, x, update, norm_weights, stream);
      linear(qkv, normalised, weights_[0], {}, false, stream);
      activation(context, qkv->slice(1, 0, 4096), Activation::relu, stream);
      linear(update, context, weights_[1], {}, false, stream);
      add_norm(normalised, x, update, norm_weights, stream);
      linear(gate_up, normalised, weights_[2], {}, false, stream);
      gated_activation(inner, gate_up, Activation::silu, stream);
      linear(update, inner, weights_[3], {}, false, stream);
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
    if (format.scaling == Fp8Scaling::none) layer.report_with_small_ops("linear, measured");
  }
}

}  // namespace millrace::bench
