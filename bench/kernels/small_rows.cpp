#include <fmt/format.h>

#include <vector>

#include "bench/kernels/rows.hpp"
#include "kernels/activation.hpp"
#include "kernels/embedding.hpp"
#include "kernels/norm.hpp"
#include "kernels/rope_cache.hpp"
#include "kernels/sampling.hpp"

namespace millrace::bench {
namespace {

Tensor waves(std::initializer_list<std::int64_t> shape) {
  Tensor tensor(DType::f32, Device::cpu(), shape);
  for (std::int64_t i = 0; i < tensor->numel(); ++i) {
    tensor->as<float>()[i] = static_cast<float>(i * 7919 % 1009) / 100.0F - 5.0F;
  }
  return tensor;
}

template <typename T>
Tensor filled(DType dtype, std::int64_t count, T value) {
  Tensor tensor(dtype, Device::cpu(), {count});
  std::fill_n(tensor->as<T>(), count, value);
  return tensor;
}

double bytes_of(std::initializer_list<std::int64_t> floats) {
  double total = 0;
  for (const std::int64_t count : floats) total += 4.0 * static_cast<double>(count);
  return total;
}

}  // namespace

void norm_rows(const Ceilings& ceilings) {
  for (const std::int64_t hidden : {576, 2048}) {
    for (const std::int64_t tokens : {1, 32, 2048}) {
      const Tensor x = waves({tokens, hidden});
      const Tensor residual = waves({tokens, hidden});
      const Tensor out = waves({tokens, hidden});
      const Tensor weight = waves({hidden});
      const NormWeights weights{NormKind::rms, weight, TensorView(), 1e-5F, 0};
      const Timing timing = time_calls([&] { add_norm(out, residual, x, weights, {}); });
      print_row("add_norm", fmt::format("hidden {} tokens {}", hidden, tokens), timing,
                bytes_of({4 * tokens * hidden}), 0, ceilings);
    }
  }
}

void activation_rows(const Ceilings& ceilings) {
  for (const std::int64_t n : {1536, 8192}) {
    for (const std::int64_t tokens : {1, 32, 512}) {
      const Tensor gate_up = waves({tokens, 2 * n});
      const Tensor out = waves({tokens, n});
      for (const auto& [kind, label] :
           {std::pair{Activation::silu, "silu"}, std::pair{Activation::gelu_tanh, "gelu_tanh"},
            std::pair{Activation::gelu_erf, "gelu_erf"}}) {
        const Timing timing = time_calls([&] { gated_activation(out, gate_up, kind, {}); });
        print_row("gated_activation", fmt::format("{} {} tokens {}", label, n, tokens), timing,
                  bytes_of({3 * tokens * n}), 0, ceilings);
      }
    }
  }
}

void rope_rows(const Ceilings& ceilings) {
  const QkvShape shape{9, 3, 64};
  for (const std::int64_t tokens : {1, 32, 512}) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const Tensor qkv = waves({tokens, shape.width()});
      const Tensor rope = waves({tokens, 64});
      const Tensor k_cache(dtype, Device::cpu(), {tokens / 16 + 1, 3, 16, 64});
      const Tensor v_cache(dtype, Device::cpu(), {tokens / 16 + 1, 3, 16, 64});
      Tensor places = filled<std::int32_t>(DType::i32, tokens, 0);
      for (std::int64_t t = 0; t < tokens; ++t)
        places->as<std::int32_t>()[t] = static_cast<std::int32_t>(t);
      const Timing timing = time_calls(
          [&] { qkv_to_cache(qkv, shape, rope, places, places, {}, k_cache, v_cache, {}); });
      print_row("qkv_to_cache", fmt::format("smollm2 tokens {} {}", tokens, name(dtype)), timing,
                bytes_of({2 * qkv->numel(), 6 * 64 * tokens}), 0, ceilings);
    }
  }
}

void sampling_rows(const Ceilings& ceilings) {
  for (const std::int64_t vocab : {49152, 128256}) {
    constexpr std::int64_t rows = 16;
    const Tensor logits = waves({rows, vocab});
    const VocabShard shard{0, vocab};
    const Tensor maxima = filled<float>(DType::f32, rows, 0);
    const Tensor temperature = filled<float>(DType::f32, rows, 1);
    const Tensor top_p = filled<float>(DType::f32, rows, 0.9F);
    const Tensor top_k = filled<std::int32_t>(DType::i32, rows, 50);
    const Tensor keys = filled<std::int64_t>(DType::i64, rows, 7);
    const Tensor positions = filled<std::int32_t>(DType::i32, rows, 9);
    const Tensor thresholds = filled<std::int32_t>(DType::i32, rows, 0);
    const Tensor prefixes = filled<std::int32_t>(DType::i32, rows, 0);
    const Tensor sums = filled<std::int64_t>(DType::i64, rows, 0);
    const Tensor histogram(DType::i64, Device::cpu(), {rows, threshold_bins});
    const Tensor best(DType::i64, Device::cpu(), {rows, 20});
    row_max(maxima, logits, shard, {});
    const auto row = [&](const char* part, const std::function<void()>& call) {
      print_row("sampling", fmt::format("{} vocab {} rows {}", part, vocab, rows), time_calls(call),
                bytes_of({rows * vocab}), 0, ceilings);
    };
    const auto search = [&](ThresholdKind kind) {
      min_p_thresholds(thresholds, maxima, temperature, filled<float>(DType::f32, rows, 0), {});
      const ThresholdSearch s{kind,   thresholds,  kind == ThresholdKind::count ? top_k : top_p,
                              maxima, temperature, prefixes,
                              sums};
      for (int round = 0; round < threshold_rounds; ++round) {
        threshold_histogram(histogram, logits, shard, s, round, {});
        threshold_narrow(s, histogram, round, {});
      }
    };
    row("row_max", [&] { row_max(maxima, logits, shard, {}); });
    row("row_mass", [&] { row_mass(sums, logits, shard, maxima, {}); });
    row("top_candidates(20)", [&] { top_candidates(best, logits, shard, {}); });
    row("top_k search", [&] { search(ThresholdKind::count); });
    row("top_p search", [&] { search(ThresholdKind::mass); });
    row("draw at temperature 1", [&] {
      draw_candidates(sums, logits, shard, {temperature, keys, positions, TensorView()}, {});
    });
    row("greedy", [&] {
      draw_candidates(sums, logits, shard,
                      {filled<float>(DType::f32, rows, 0), keys, positions, TensorView()}, {});
    });
  }
}

}  // namespace millrace::bench
