// Norms against numbers worked out by hand and against double precision.
#include "kernels/norm.hpp"

#include "test/kernels/random_tensor.hpp"

namespace millrace {
namespace {

TEST(Norm, RmsByHand) {
  // mean(x^2) = (9 + 16) / 2 = 12.5; with eps 12.5 the divisor is 5.
  const Tensor x = floats({1, 2}, {3, -4});
  const Tensor weight = floats({2}, {1, 10});
  const Tensor out = poisoned(DType::f32, {1, 2});
  norm(out, x, {NormKind::rms, weight, TensorView(), 12.5F, 0}, cpu_stream);
  EXPECT_EQ(to_vector(out), (std::vector<float>{0.6F, -8}));
  norm(out, x, {NormKind::rms, weight, TensorView(), 12.5F, 1}, cpu_stream);
  EXPECT_FLOAT_EQ(to_vector(out)[0], 1.2F);
  EXPECT_FLOAT_EQ(to_vector(out)[1], -8.8F);
}

TEST(Norm, LayerByHand) {
  // mean 3, deviations (-2, 2), variance 4; eps 12 makes the divisor 4.
  const Tensor x = floats({1, 2}, {1, 5});
  const Tensor weight = floats({2}, {2, 4});
  const Tensor bias = floats({2}, {10, 20});
  const Tensor out = poisoned(DType::f32, {1, 2});
  norm(out, x, {NormKind::layer, weight, bias, 12, 0}, cpu_stream);
  EXPECT_EQ(to_vector(out), (std::vector<float>{9, 22}));
  norm(out, x, {NormKind::layer, weight, TensorView(), 12, 0}, cpu_stream);
  EXPECT_EQ(to_vector(out), (std::vector<float>{-1, 2}));
}

TEST(Norm, AgreesWithDoublePrecisionAtOddWidthsAndKeepsToItsColumns) {
  for (const std::int64_t n : {1, 15, 16, 33, 576, 2049}) {
    for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
      const Tensor wide = random_tensor(DType::f32, {5, n + 8}, 31, 3);
      const TensorView x = wide->slice(1, 4, n);
      const Tensor weight = random_tensor(DType::f32, {n}, 32);
      const Tensor bias = random_tensor(DType::f32, {n}, 33);
      const bool layer = kind == NormKind::layer;
      const Tensor wide_out = poisoned(DType::f32, {5, n + 1});
      const TensorView out = wide_out->slice(1, 0, n);
      norm(out, x, {kind, weight, layer ? bias.view() : TensorView(), 1e-5F, 0}, cpu_stream);
      for (std::int64_t t = 0; t < 5; ++t) {
        const float* row = x.as<float>() + t * x.stride(0);
        double mean = 0, variance = 0;
        for (std::int64_t i = 0; i < n; ++i) mean += row[i] / static_cast<double>(n);
        if (!layer) mean = 0;
        for (std::int64_t i = 0; i < n; ++i)
          variance += (row[i] - mean) * (row[i] - mean) / static_cast<double>(n);
        for (std::int64_t i = 0; i < n; ++i) {
          const double expected =
              (row[i] - mean) / std::sqrt(variance + 1e-5) * weight->as<float>()[i] +
              (layer ? bias->as<float>()[i] : 0.0F);
          ASSERT_NEAR(out.as<float>()[t * out.stride(0) + i], expected, 4e-6) << n;
        }
        EXPECT_TRUE(std::isnan(wide_out->as<float>()[t * (n + 1) + n]));
      }
    }
  }
}

TEST(Norm, AddNormIsAddThenNormAndMayWriteOverItsInputs) {
  const Tensor weight = random_tensor(DType::f32, {100}, 34);
  const NormWeights weights{NormKind::rms, weight, TensorView(), 1e-5F, 0};
  const Tensor x = random_tensor(DType::f32, {7, 100}, 35);
  const Tensor sum = random_tensor(DType::f32, {7, 100}, 36);
  const Tensor expected = poisoned(DType::f32, {7, 100});
  add(sum, x, cpu_stream);
  EXPECT_EQ(sum->as<float>()[123],
            random_tensor(DType::f32, {7, 100}, 36)->as<float>()[123] + x->as<float>()[123]);
  norm(expected, sum, weights, cpu_stream);

  const Tensor residual = random_tensor(DType::f32, {7, 100}, 36);
  const Tensor out = poisoned(DType::f32, {7, 100});
  add_norm(out, residual, x, weights, cpu_stream);
  EXPECT_TRUE(same_bits(out, expected));
  EXPECT_TRUE(same_bits(residual, sum));

  const Tensor over_residual = random_tensor(DType::f32, {7, 100}, 36);
  add_norm(over_residual, over_residual, x, weights, cpu_stream);
  EXPECT_TRUE(same_bits(over_residual, expected));

  const Tensor over_x = random_tensor(DType::f32, {7, 100}, 35);
  add_norm(over_x, random_tensor(DType::f32, {7, 100}, 36), over_x, weights, cpu_stream);
  EXPECT_TRUE(same_bits(over_x, expected));
}

TEST(Norm, AShapeErrorNamesTheTensor) {
  const Tensor x(DType::f32, Device::cpu(), {2, 8});
  const Tensor weight(DType::f32, Device::cpu(), {7});
  const NormWeights weights{NormKind::rms, weight, TensorView(), 1e-5F, 0};
  EXPECT_EQ(shape_error([&] { norm(x, x, weights, cpu_stream); }),
            "norm: weight is float32 [7] on cpu, expected float32 [8]");
  const NormWeights biased{NormKind::rms, weight->slice(0, 0, 7), weight, 1e-5F, 0};
  EXPECT_EQ(shape_error([&] { norm(x->slice(1, 0, 7), x->slice(1, 0, 7), biased, cpu_stream); }),
            "norm: bias given to an RMS norm, which has none");
}

}  // namespace
}  // namespace millrace
