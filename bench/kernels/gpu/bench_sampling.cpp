// Sampling against copy bandwidth: the bytes of one reading of the logits for each pass over them.
#include "bench/kernels/gpu/gpu_bench.hpp"
#include "kernels/sampling.hpp"

namespace millrace::bench {

void bench_sampling(const GpuBench& bench) {
  const Stream stream = bench.stream();
  for (const std::int64_t rows : {64, 512}) {
    const std::int64_t vocabulary = 128256;
    const VocabShard shard{0, vocabulary};
    const Tensor logits = bench.random(DType::f32, {rows, vocabulary}, 3);
    const auto vector = [&](DType dtype) { return Tensor(dtype, bench.device(), {rows}); };
    const Tensor maxima = vector(DType::f32);
    const Tensor masses = vector(DType::i64);
    const Tensor candidates = vector(DType::i64);
    const Tensor thresholds = vector(DType::i32);
    const Tensor prefixes = vector(DType::i32);
    const Tensor remaining = vector(DType::i64);
    const Tensor histogram(DType::i64, bench.device(), {rows, threshold_bins});
    const Tensor top(DType::i64, bench.device(), {rows, 20});
    const Tensor noise_keys(DType::i64, bench.device(), {rows});
    fill_bytes(noise_keys->data(), 0x5a, noise_keys->bytes(), stream);
    const auto many = static_cast<std::size_t>(rows);
    const Tensor positions = bench.ints(std::vector<std::int32_t>(many, 100));
    const Tensor top_k = bench.ints(std::vector<std::int32_t>(many, 50));
    const auto floats = [&](float value) {
      Tensor tensor(DType::f32, bench.device(), {rows});
      const std::vector<float> values(many, value);
      copy_bytes(tensor->data(), bench.device(), values.data(), Device::cpu(), tensor->bytes(),
                 stream);
      synchronize(stream);
      return tensor;
    };
    const Tensor zero = floats(0);
    const Tensor one = floats(1);
    const Tensor top_p = floats(0.9F);
    const auto pass = static_cast<double>(logits->bytes());
    const std::string shape = fmt::format("{} x {} f32", rows, vocabulary);
    const auto report = [&](const std::string& what, double passes,
                            const std::function<void()>& call) {
      bench.report_bytes(what, shape, bench.seconds(call), passes * pass);
    };
    report("row_max", 1, [&] { row_max(maxima, logits, shard, stream); });
    report("row_mass", 1, [&] { row_mass(masses, logits, shard, maxima, stream); });
    report("draw greedy", 1, [&] {
      draw_candidates(candidates, logits, shard, {zero, noise_keys, positions, TensorView()},
                      stream);
    });
    report("draw temperature 1", 1, [&] {
      draw_candidates(candidates, logits, shard, {one, noise_keys, positions, TensorView()},
                      stream);
    });
    report("top_candidates 20", 1, [&] { top_candidates(top, logits, shard, stream); });
    report("top-k + top-p + draw", 10, [&] {
      row_max(maxima, logits, shard, stream);
      min_p_thresholds(thresholds, maxima, one, zero, stream);
      for (const ThresholdKind kind : {ThresholdKind::count, ThresholdKind::mass}) {
        const ThresholdSearch search{
            kind,     thresholds, kind == ThresholdKind::count ? top_k : top_p, maxima, one,
            prefixes, remaining};
        for (int round = 0; round < threshold_rounds; ++round) {
          threshold_histogram(histogram, logits, shard, search, round, stream);
          threshold_narrow(search, histogram, round, stream);
        }
      }
      draw_candidates(candidates, logits, shard, {one, noise_keys, positions, thresholds}, stream);
    });
  }
}

}  // namespace millrace::bench
