// Ops that handle rows one by one: norms, activations, look-ups, gathers, and what goes to the
// cache.
#include "kernels/activation.hpp"
#include "kernels/embedding.hpp"
#include "kernels/gather.hpp"
#include "kernels/norm.hpp"
#include "kernels/rope_cache.hpp"
#include "test/kernels/gpu/gpu_test.hpp"

namespace millrace {
namespace {

using NormOnGpu = OnGpu;
using ActivationOnGpu = OnGpu;
using EmbeddingOnGpu = OnGpu;
using GatherOnGpu = OnGpu;
using QkvOnGpu = OnGpu;

TEST_F(NormOnGpu, AgreesWithTheCpuForEveryKindTypeAndWidth) {
  for (const DType dtype : float_types) {
    for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
      for (const std::int64_t hidden : {1, 7, 64, 576, 1000, 4096, 8191, 16384, 40000}) {
        const Tensor x = random_tensor(dtype, {5, hidden}, 1);
        const Tensor weight = random_tensor(dtype, {hidden}, 2);
        const Tensor bias = random_tensor(dtype, {hidden}, 3);
        const bool has_bias = kind == NormKind::layer;
        const Tensor wide_weight = widened_tensor(weight);
        const Tensor wide_bias = widened_tensor(bias);
        const Tensor expected = poisoned(DType::f32, {5, hidden});
        norm(expected, widened_tensor(x),
             {kind, wide_weight, has_bias ? wide_bias.view() : TensorView(), 1e-5F, 1}, cpu_stream);
        const Tensor gpu_x = to_gpu(x, stream());
        const Tensor gpu_weight = to_gpu(weight, stream());
        const Tensor gpu_bias = to_gpu(bias, stream());
        const NormWeights weights{kind, gpu_weight, has_bias ? gpu_bias.view() : TensorView(),
                                  1e-5F, 1};
        const Tensor out = poisoned_on_gpu(dtype, {5, hidden}, stream());
        norm(out, gpu_x, weights, stream());
        const float units = dtype == DType::f32 ? 64 : 1.1F;
        EXPECT_TRUE(near_oracle(out, expected, units, 1, stream()))
            << name(dtype) << " hidden " << hidden;
        norm(gpu_x, gpu_x, weights, stream());
        EXPECT_TRUE(near_oracle(gpu_x, expected, units, 1, stream())) << "in place";
      }
    }
  }
}

TEST_F(NormOnGpu, TheSumIsRoundedAndKeptBeforeItIsNormalised) {
  for (const DType dtype : float_types) {
    for (const std::int64_t hidden : {7, 576, 4096}) {
      const Tensor x = to_gpu(random_tensor(dtype, {3, hidden}, 1), stream());
      const Tensor residual = to_gpu(random_tensor(dtype, {3, hidden}, 2), stream());
      const Tensor weight = to_gpu(random_tensor(dtype, {hidden}, 3), stream());
      const NormWeights weights{NormKind::rms, weight, TensorView(), 1e-6F, 0};
      const Tensor summed = poisoned_on_gpu(dtype, {3, hidden}, stream());
      copy(summed, residual, stream());
      add(summed, x, stream());
      const Tensor expected = poisoned_on_gpu(dtype, {3, hidden}, stream());
      norm(expected, summed, weights, stream());
      const Tensor out = poisoned_on_gpu(dtype, {3, hidden}, stream());
      add_norm(out, residual, x, weights, stream());
      EXPECT_EQ(std::memcmp(to_host(out, stream())->data(), to_host(expected, stream())->data(),
                            out->bytes()),
                0);
      EXPECT_EQ(std::memcmp(to_host(residual, stream())->data(), to_host(summed, stream())->data(),
                            out->bytes()),
                0);
      const Tensor host_sum = widened_tensor(to_host(summed, stream()));
      const Tensor cpu_sum = widened_tensor(random_tensor(dtype, {3, hidden}, 2));
      add(cpu_sum, widened_tensor(random_tensor(dtype, {3, hidden}, 1)), cpu_stream);
      EXPECT_TRUE(near_oracle(summed, cpu_sum, 1, 1e-6F, stream()));
    }
  }
}

TEST_F(NormOnGpu, RowsMayBeStrided) {
  const Tensor wide = random_tensor(DType::bf16, {4, 200}, 1);
  const Tensor weight = random_tensor(DType::bf16, {96}, 2);
  const Tensor gpu_wide = to_gpu(wide, stream());
  const Tensor gpu_weight = to_gpu(weight, stream());
  const Tensor wide_f32 = widened_tensor(wide);
  const Tensor weight_f32 = widened_tensor(weight);
  for (const std::int64_t begin : {0, 3, 8}) {
    const Tensor expected = poisoned(DType::f32, {4, 96});
    norm(expected, wide_f32->slice(1, begin, 96),
         {NormKind::rms, weight_f32, TensorView(), 1e-5F, 0}, cpu_stream);
    const Tensor out = poisoned_on_gpu(DType::bf16, {4, 96}, stream());
    norm(out, gpu_wide->slice(1, begin, 96), {NormKind::rms, gpu_weight, TensorView(), 1e-5F, 0},
         stream());
    EXPECT_TRUE(near_oracle(out, expected, 1.1F, 0.1F, stream())) << begin;
  }
}

TEST_F(ActivationOnGpu, EveryFunctionAgreesWithTheCpu) {
  for (const DType dtype : float_types) {
    for (const Activation kind : {Activation::silu, Activation::gelu_tanh, Activation::gelu_erf,
                                  Activation::relu, Activation::quick_gelu}) {
      for (const std::int64_t n : {1, 13, 256, 1000, 11008}) {
        const Tensor x = random_tensor(dtype, {3, 2 * n}, 1, 3);
        const Tensor gpu_x = to_gpu(x, stream());
        const Tensor wide = widened_tensor(x);
        const float units = dtype == DType::f32 ? 256 : 1.2F;  // fast exponentials

        const Tensor expected = poisoned(DType::f32, {3, 2 * n});
        activation(expected, wide, kind, cpu_stream);
        const Tensor out = poisoned_on_gpu(dtype, {3, 2 * n}, stream());
        activation(out, gpu_x, kind, stream());
        EXPECT_TRUE(near_oracle(out, expected, units, 0.05F, stream())) << name(dtype) << n;

        const Tensor gated_expected = poisoned(DType::f32, {3, n});
        gated_activation(gated_expected, wide, kind, cpu_stream);
        const Tensor gated = poisoned_on_gpu(dtype, {3, n}, stream());
        gated_activation(gated, gpu_x, kind, stream());
        EXPECT_TRUE(near_oracle(gated, gated_expected, units, 1, stream())) << name(dtype) << n;
      }
    }
  }
}

TEST_F(ActivationOnGpu, LogitsAreScaledAndCapped) {
  for (const float softcap : {0.0F, 30.0F}) {
    const Tensor x = random_tensor(DType::f32, {3, 1001}, 1, 40);
    const Tensor gpu_x = to_gpu(x, stream());
    scale_softcap(x, 0.7F, softcap, cpu_stream);
    scale_softcap(gpu_x, 0.7F, softcap, stream());
    EXPECT_TRUE(near_oracle(gpu_x, x, 16, 1, stream()));
  }
}

TEST_F(EmbeddingOnGpu, RowsOfOtherShardsAreZeros) {
  for (const DType dtype : float_types) {
    for (const std::int64_t hidden : {33, 576}) {
      const Tensor table = random_tensor(dtype, {10, hidden}, 1);
      const Tensor ids = ints({20, 29, 19, 30, 25, 0});
      const Tensor expected = poisoned(DType::f32, {6, hidden});
      embedding(expected, ids, pack_linear(widened_tensor(table), Device::cpu(), cpu_stream), 20,
                1.5F, cpu_stream);
      const Tensor out = poisoned_on_gpu(dtype, {6, hidden}, stream());
      embedding(out, to_gpu(ids, stream()), pack_linear(table, stream().device, stream()), 20, 1.5F,
                stream());
      EXPECT_TRUE(near_oracle(out, expected, 1, 1e-4F, stream())) << name(dtype);
    }
  }
}

TEST_F(EmbeddingOnGpu, LearnedPositionsAreAddedBehindTheirOffset) {
  for (const DType dtype : float_types) {
    const Tensor table = random_tensor(dtype, {12, 100}, 1);
    const Tensor x = random_tensor(dtype, {4, 100}, 2);
    const Tensor positions = ints({0, 9, 3, 3});
    const Tensor expected = widened_tensor(x);
    add_position_embedding(expected, positions, widened_tensor(table), 2, cpu_stream);
    const Tensor out = to_gpu(x, stream());
    add_position_embedding(out, to_gpu(positions, stream()), to_gpu(table, stream()), 2, stream());
    EXPECT_TRUE(near_oracle(out, expected, 1, 1e-6F, stream())) << name(dtype);
  }
}

TEST_F(GatherOnGpu, RowsAndTokensMoveBitForBit) {
  for (const DType dtype : float_types) {
    for (const std::int64_t width : {5, 576}) {
      const Tensor x = random_tensor(dtype, {7, width}, 1);
      const Tensor rows = ints({6, 0, 0, 3});
      const Tensor out = poisoned_on_gpu(dtype, {4, width}, stream());
      gather_rows(out, to_gpu(x, stream()), to_gpu(rows, stream()), stream());
      const Tensor host = to_host(out, stream());
      const auto row_bytes = static_cast<std::size_t>(width) * size_of(dtype);
      for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(std::memcmp(static_cast<char*>(host->data()) + i * row_bytes,
                              x->slice(0, rows->as<std::int32_t>()[i], 1).data(), row_bytes),
                  0);
      }
    }
  }
  const Tensor ids = to_gpu(ints({1, 2, 3, 4}), stream());
  feed_tokens(ids, to_gpu(ints({70, 80}), stream()), to_gpu(ints({-1, 1, 0, -1}), stream()),
              stream());
  const Tensor fed = to_host(ids, stream());
  EXPECT_EQ(std::vector<std::int32_t>(fed->as<std::int32_t>(), fed->as<std::int32_t>() + 4),
            (std::vector<std::int32_t>{1, 80, 70, 4}));
}

struct QkvCase {
  QkvShape shape;
  std::int64_t rotary_dim;  // 0: none
  bool normed;
};

// Cache rows that no slot names keep their poison.
TEST_F(QkvOnGpu, QueriesAndCachesAgreeWithTheCpu) {
  const QkvCase cases[] = {
      {{9, 3, 64}, 64, false},  {{4, 4, 128}, 128, true}, {{8, 2, 80}, 80, false},
      {{6, 2, 96}, 96, true},   {{4, 1, 256}, 256, true}, {{4, 2, 64}, 0, false},
      {{4, 2, 128}, 32, false}, {{2, 1, 20}, 20, true},   {{4, 2, 64}, 0, true}};
  const std::int64_t tokens = 5;
  const std::int64_t blocks = 3;
  const std::int64_t block_size = 4;
  const Tensor positions = ints({0, 17, 3, 4, 31});
  const Tensor slots = ints({11, 0, -1, 5, 6});
  for (const DType dtype : float_types) {
    for (const DType cache : {DType::f32, DType::bf16, DType::f16, DType::fp8_e4m3}) {
      for (const QkvCase& c : cases) {
        const std::int64_t head_dim = c.shape.head_dim;
        const Tensor qkv = random_tensor(dtype, {tokens, c.shape.width()}, 1);
        const Tensor rope =
            random_tensor(DType::f32, {32, std::max<std::int64_t>(c.rotary_dim, 1)}, 2);
        const Tensor q_weight = random_tensor(dtype, {head_dim}, 3);
        const Tensor k_weight = random_tensor(dtype, {head_dim}, 4);
        const auto cache_shape = {blocks, c.shape.kv_heads, block_size, head_dim};

        const Tensor expected = widened_tensor(qkv);
        const Tensor k_expected = poisoned(DType::f32, cache_shape);
        const Tensor v_expected = poisoned(DType::f32, cache_shape);
        const Tensor wide_q = widened_tensor(q_weight);
        const Tensor wide_k = widened_tensor(k_weight);
        qkv_to_cache(expected, c.shape, c.rotary_dim > 0 ? rope.view() : TensorView(), positions,
                     slots, c.normed ? QkNorm{wide_q, wide_k, 1e-6F, 1} : QkNorm{}, k_expected,
                     v_expected, cpu_stream);

        const Tensor gpu_qkv = to_gpu(qkv, stream());
        const Tensor gpu_rope = to_gpu(rope, stream());
        const Tensor gpu_q = to_gpu(q_weight, stream());
        const Tensor gpu_k = to_gpu(k_weight, stream());
        const Tensor k_cache = poisoned_on_gpu(cache, cache_shape, stream());
        const Tensor v_cache = poisoned_on_gpu(cache, cache_shape, stream());
        qkv_to_cache(gpu_qkv, c.shape, c.rotary_dim > 0 ? gpu_rope.view() : TensorView(),
                     to_gpu(positions, stream()), to_gpu(slots, stream()),
                     c.normed ? QkNorm{gpu_q, gpu_k, 1e-6F, 1} : QkNorm{}, k_cache, v_cache,
                     stream());

        const auto what = [&] {
          return std::string(name(dtype)) + " to " + std::string(name(cache)) + " head_dim " +
                 std::to_string(head_dim) + " rotary " + std::to_string(c.rotary_dim);
        };
        const Tensor queries_expected(DType::f32, Device::cpu(),
                                      {tokens, c.shape.heads * head_dim});
        for (std::int64_t t = 0; t < tokens; ++t) {
          std::memcpy(queries_expected->slice(0, t, 1).data(), expected->slice(0, t, 1).data(),
                      static_cast<std::size_t>(c.shape.heads * head_dim) * sizeof(float));
        }
        const float units = dtype == DType::f32 ? 32 : 1.1F;
        EXPECT_TRUE(near_oracle(gpu_qkv->slice(1, 0, c.shape.heads * head_dim), queries_expected,
                                units, 1, stream()))
            << what();
        for (const auto& [got, want] :
             {std::pair{&k_cache, &k_expected}, {&v_cache, &v_expected}}) {
          const std::vector<float> values = widened(to_host(*got, stream()));
          for (std::size_t i = 0; i < values.size(); ++i) {
            const float exact = (*want)->as<float>()[i];
            if (std::isnan(exact)) {
              ASSERT_TRUE(std::isnan(values[i])) << what() << ": wrote where no slot points";
              continue;
            }
            const float allowed = (rounding(cache) + 32 * rounding(DType::f32)) *
                                  std::max(std::fabs(exact), cache == DType::f32 ? 1.0F : 0x1p-6F);
            ASSERT_NEAR(values[i], exact, allowed) << what();
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace millrace
