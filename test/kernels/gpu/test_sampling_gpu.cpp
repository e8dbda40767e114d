// Every part of sampling gives the CPU's bits: a draw does not depend on where it was made.
#include "kernels/sampling.hpp"
#include "kernels/sampling_math.hpp"
#include "test/kernels/gpu/gpu_test.hpp"

namespace millrace {
namespace {

class SamplingOnGpu : public OnGpu {
 protected:
  static constexpr std::int64_t rows = 6;

  // Logits with ties, NaN, infinities and padding columns that must never be read.
  static Tensor hard_logits(std::int64_t columns, std::int64_t size, unsigned seed) {
    Tensor logits = random_tensor(DType::f32, {rows, columns}, seed, 4);
    for (std::int64_t r = 0; r < rows; ++r) {
      float* row = logits->as<float>() + r * columns;
      for (std::int64_t j = 0; j < size; j += 7) row[j] = std::round(row[j]);
      if (size > 3) row[3] = std::numeric_limits<float>::quiet_NaN();
      if (size > 5) row[5] = -std::numeric_limits<float>::infinity();
      for (std::int64_t j = size; j < columns; ++j) row[j] = 1e30F;
    }
    if (size > 0) {
      for (std::int64_t j = 0; j < size; ++j) {
        logits->as<float>()[columns + j] = -std::numeric_limits<float>::infinity();  // row 1
      }
    }
    return logits;
  }

  // Runs `op` on both sides: each gets the logits and a poisoned output there, and outputs must be
  // equal.
  template <typename Op>
  static void expect_same(DType dtype, std::initializer_list<std::int64_t> shape, Op&& op) {
    const Tensor on_cpu = poisoned(dtype, shape);
    op(on_cpu.view(), Device::cpu(), cpu_stream);
    const Tensor on_gpu = poisoned_on_gpu(dtype, shape, stream());
    op(on_gpu.view(), stream().device, stream());
    const Tensor host = to_host(on_gpu, stream());
    if (dtype == DType::f32) {  // as numbers: both zeros are one
      EXPECT_EQ(to_vector(host), to_vector(on_cpu));
    } else {
      EXPECT_EQ(std::memcmp(host->data(), on_cpu->data(), on_cpu->bytes()), 0);
    }
  }

  static const TensorView& pick(Device device, const Tensor& cpu, const Tensor& gpu) {
    return device.is_cuda() ? gpu.view() : cpu.view();
  }
};

constexpr std::int64_t sizes[][2] = {{1, 1}, {40, 37}, {8192, 8192}, {20001, 19999}};

TEST_F(SamplingOnGpu, MaximaMassesCountsAndPicksAreEqual) {
  for (const auto& [columns, size] : sizes) {
    const VocabShard shard{1000, size};
    const Tensor logits = hard_logits(columns, size, 1);
    const Tensor gpu_logits = to_gpu(logits, stream());
    expect_same(DType::f32, {rows}, [&](const TensorView& out, Device device, Stream s) {
      row_max(out, pick(device, logits, gpu_logits), shard, s);
    });
    const Tensor maxima = poisoned(DType::f32, {rows});
    row_max(maxima, logits, shard, cpu_stream);
    const Tensor gpu_maxima = to_gpu(maxima, stream());
    expect_same(DType::i64, {rows}, [&](const TensorView& out, Device device, Stream s) {
      row_mass(out, pick(device, logits, gpu_logits), shard, pick(device, maxima, gpu_maxima), s);
    });
    const Tensor tokens = ints({1000, 999, 1000 + static_cast<int>(size) - 1, 1000, 5, 1000});
    const Tensor gpu_tokens = to_gpu(tokens, stream());
    expect_same(DType::f32, {rows}, [&](const TensorView& out, Device device, Stream s) {
      pick_logits(out, pick(device, logits, gpu_logits), shard, pick(device, tokens, gpu_tokens),
                  s);
    });
    const Tensor values = floats({rows}, {0, 1, -3, 2.5F, -1e30F, 4});
    const Tensor gpu_values = to_gpu(values, stream());
    expect_same(DType::i64, {rows}, [&](const TensorView& out, Device device, Stream s) {
      count_at_least(out, pick(device, logits, gpu_logits), shard, pick(device, values, gpu_values),
                     s);
    });
  }
}

TEST_F(SamplingOnGpu, TopCandidatesAreEqualAndMergeAcrossRanks) {
  for (const auto& [columns, size] : sizes) {
    for (const std::int64_t k : {1, 5, 32}) {
      const Tensor logits = hard_logits(columns, size, 2);
      const Tensor gpu_logits = to_gpu(logits, stream());
      expect_same(DType::i64, {rows, k}, [&](const TensorView& out, Device device, Stream s) {
        top_candidates(out, pick(device, logits, gpu_logits), {77, size}, s);
      });
    }
  }
  Tensor gathered(DType::i64, Device::cpu(), {3, rows, 4});
  const Tensor noise = random_tensor(DType::f32, {3 * rows, 4}, 3);
  for (std::int64_t i = 0; i < gathered->numel(); ++i) {
    gathered->as<std::int64_t>()[i] =
        i % 5 == 0 ? no_candidate : pack_candidate(noise->as<float>()[i], static_cast<int>(i));
  }
  Tensor gpu_gathered(DType::i64, stream().device, {3, rows, 4});
  contiguous_copy(gpu_gathered, gathered, stream());
  expect_same(DType::i64, {rows, 4}, [&](const TensorView& out, Device device, Stream s) {
    merge_candidates(out, pick(device, gathered, gpu_gathered), s);
  });
}

TEST_F(SamplingOnGpu, EditsApplyAndUndoBitForBit) {
  const Tensor logits = random_tensor(DType::f32, {rows, 100}, 1);
  const Tensor edit_rows = ints({0, 0, 5, -1, 2, 3});
  const Tensor tokens = ints({500, 599, 550, 500, 499, 520});
  const Tensor divide = floats({6}, {1.3F, 1, 1.7F, 2, 2, 1});
  const Tensor subtract =
      floats({6}, {0.1F, -3, 0.7F, 1, 1, std::numeric_limits<float>::infinity()});
  const Tensor saved = poisoned(DType::f32, {6});
  const LogitEdits edits{edit_rows, tokens, divide, subtract, saved};
  const Tensor gpu_logits = to_gpu(logits, stream());
  std::vector<Tensor> gpu;
  for (const TensorView* view :
       {&edits.rows, &edits.tokens, &edits.divide, &edits.subtract, &edits.saved}) {
    Tensor copied(view->dtype(), stream().device, {view->size(0)});
    contiguous_copy(copied, *view, stream());
    gpu.push_back(std::move(copied));
  }
  const LogitEdits gpu_edits{gpu[0], gpu[1], gpu[2], gpu[3], gpu[4]};
  const std::vector<float> before = to_vector(logits);
  apply_edits(logits, {500, 100}, edits, cpu_stream);
  apply_edits(gpu_logits, {500, 100}, gpu_edits, stream());
  EXPECT_EQ(to_vector(to_host(gpu_logits, stream())), to_vector(logits));
  EXPECT_NE(to_vector(logits), before);
  undo_edits(gpu_logits, {500, 100}, gpu_edits, stream());
  EXPECT_EQ(to_vector(to_host(gpu_logits, stream())), before);
}

// min-p, then top-k, then top-p, then the draw: the whole chain, with every kind of row.
TEST_F(SamplingOnGpu, ThresholdsAndDrawsAreEqual) {
  for (const auto& [columns, size] : sizes) {
    for (const std::int64_t begin : {0, 1002}) {
      const VocabShard shard{begin, size};
      const Tensor logits = hard_logits(columns, size, 5);
      const Tensor maxima = poisoned(DType::f32, {rows});
      row_max(maxima, logits, shard, cpu_stream);
      const Tensor temperature = floats({rows}, {1, 1, 0, 0.5F, 2, 1});
      const Tensor min_p = floats({rows}, {0, 0.1F, 0.1F, 0.01F, 0, 0});
      const Tensor top_k = ints({0, 3, 5, 50, 1, 0});
      const Tensor top_p = floats({rows}, {1, 0.5F, 0.5F, 0.9F, 0.3F, 0.999F});
      Tensor noise_keys(DType::i64, Device::cpu(), {rows});
      for (std::int64_t r = 0; r < rows; ++r) {
        noise_keys->as<std::int64_t>()[r] = noise_key(7, r * 1234567, static_cast<int>(r));
      }
      const Tensor positions = ints({0, 1, 2, 3, 4, 100000});

      const auto thresholds_of = [&](const TensorView& out, Device device, Stream s) {
        const auto here = [&](const Tensor& tensor) {
          Tensor copied(tensor->dtype(), device,
                        {tensor->size(0), tensor->rank() > 1 ? tensor->size(1) : 1});
          contiguous_copy(copied, tensor, s);
          return copied;
        };
        const auto vector = [&](const Tensor& tensor) { return tensor->reshape({rows}); };
        const Tensor l = here(logits);
        const Tensor m = here(maxima);
        const Tensor t = here(temperature);
        const Tensor p = here(min_p);
        const Tensor limits_k = here(top_k);
        const Tensor limits_p = here(top_p);
        min_p_thresholds(out, vector(m), vector(t), vector(p), s);
        const Tensor prefixes(DType::i32, device, {rows});
        const Tensor remaining(DType::i64, device, {rows});
        const Tensor histogram(DType::i64, device, {rows, threshold_bins});
        for (const ThresholdKind kind : {ThresholdKind::count, ThresholdKind::mass}) {
          const ThresholdSearch search{
              kind,      out,       vector(kind == ThresholdKind::count ? limits_k : limits_p),
              vector(m), vector(t), prefixes,
              remaining};
          for (int round = 0; round < threshold_rounds; ++round) {
            threshold_histogram(histogram, l, shard, search, round, s);
            threshold_narrow(search, histogram, round, s);
          }
        }
        synchronize(s);
      };
      expect_same(DType::i32, {rows}, thresholds_of);
      const Tensor thresholds = poisoned(DType::i32, {rows});
      thresholds_of(thresholds, Device::cpu(), cpu_stream);

      const Tensor gpu_logits = to_gpu(logits, stream());
      const Tensor gpu_temperature = to_gpu(temperature, stream());
      const Tensor gpu_keys = to_gpu(noise_keys, stream());
      const Tensor gpu_positions = to_gpu(positions, stream());
      const Tensor gpu_thresholds = to_gpu(thresholds, stream());
      for (const bool limited : {false, true}) {
        expect_same(DType::i64, {rows}, [&](const TensorView& out, Device device, Stream s) {
          const DrawRows draw{pick(device, temperature, gpu_temperature),
                              pick(device, noise_keys, gpu_keys),
                              pick(device, positions, gpu_positions),
                              limited ? pick(device, thresholds, gpu_thresholds) : TensorView()};
          draw_candidates(out, pick(device, logits, gpu_logits), shard, draw, s);
        });
      }
    }
  }
  Tensor candidates(DType::i64, Device::cpu(), {3});
  candidates->as<std::int64_t>()[0] = pack_candidate(1.5F, 128000);
  candidates->as<std::int64_t>()[1] = no_candidate;
  candidates->as<std::int64_t>()[2] = pack_candidate(-2, 0);
  const Tensor gpu_candidates = to_gpu(candidates, stream());
  expect_same(DType::i32, {3}, [&](const TensorView& out, Device device, Stream s) {
    unpack_candidates(out, pick(device, candidates, gpu_candidates), s);
  });
}

// Flat logits and steep ones: the token that a bound promises most is not always the one drawn.
TEST_F(SamplingOnGpu, ManyDrawsAreEqual) {
  constexpr std::int64_t many = 256;
  constexpr std::int64_t columns = 9000;
  for (const float spread : {1e-6F, 0.1F, 8.0F}) {
    for (const std::int64_t begin : {0, 1003}) {
      const Tensor logits = random_tensor(DType::f32, {many, columns}, 11, spread);
      Tensor temperature(DType::f32, Device::cpu(), {many});
      Tensor noise_keys(DType::i64, Device::cpu(), {many});
      Tensor positions(DType::i32, Device::cpu(), {many});
      for (std::int64_t r = 0; r < many; ++r) {
        temperature->as<float>()[r] = 0.01F * static_cast<float>(1 + r * r % 400);
        noise_keys->as<std::int64_t>()[r] = noise_key(3, r, 0);
        positions->as<std::int32_t>()[r] = static_cast<std::int32_t>(7 * r);
      }
      const Tensor gpu_logits = to_gpu(logits, stream());
      const Tensor gpu_temperature = to_gpu(temperature, stream());
      const Tensor gpu_keys = to_gpu(noise_keys, stream());
      const Tensor gpu_positions = to_gpu(positions, stream());
      expect_same(DType::i64, {many}, [&](const TensorView& out, Device device, Stream s) {
        const DrawRows draw{pick(device, temperature, gpu_temperature),
                            pick(device, noise_keys, gpu_keys),
                            pick(device, positions, gpu_positions), TensorView()};
        draw_candidates(out, pick(device, logits, gpu_logits), {begin, columns}, draw, s);
      });
    }
  }
}

}  // namespace
}  // namespace millrace
