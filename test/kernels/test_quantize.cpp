// Rows to fp8: by hand, and the fused forms against norm or activation followed by quantize().
#include "kernels/quantize.hpp"

#include "kernels/activation.hpp"
#include "kernels/norm.hpp"
#include "test/kernels/quantized_tensor.hpp"

namespace millrace {
namespace {

std::vector<float> values_of(const QuantizedTensor& rows) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < rows.values().numel(); ++i)
    values.push_back(element(rows.values(), i));
  return values;
}

TEST(Quantize, ARowsLargestMagnitudeBecomes448) {
  const QuantizedTensor rows = poisoned_quantized(2, 4, Fp8Scaling::rows, Device::cpu());
  quantize(rows.view(), floats({2, 4}, {1, -896, 30, 0, 0.25F, 7, -3.5F, 0.0625F}), cpu_stream);
  EXPECT_EQ(to_vector(rows.scales), (std::vector<float>{2, 1.0F / 64}));
  // 30 / 2 is an fp8 number, 1 / 2 too; 0.25 * 64 = 16, 0.0625 * 64 = 4.
  EXPECT_EQ(values_of(rows), (std::vector<float>{0.5F, -448, 15, 0, 16, 448, -224, 4}));
}

TEST(Quantize, RoundsToTheNearestOfTwoNeighboursAndTiesToEven) {
  const QuantizedTensor rows = poisoned_quantized(1, 5, Fp8Scaling::rows, Device::cpu());
  quantize(rows.view(), floats({1, 5}, {448, 17, 19, 17.5F, 0x1p-11F}), cpu_stream);
  EXPECT_EQ(values_of(rows), (std::vector<float>{448, 16, 20, 18, 0}));
}

TEST(Quantize, EachBlockOf128ColumnsHasItsOwnScale) {
  const Tensor x = random_tensor(DType::f32, {3, 300}, 1);
  const QuantizedTensor blocks = poisoned_quantized(3, 300, Fp8Scaling::blocks, Device::cpu());
  quantize(blocks.view(), x, cpu_stream);
  for (const std::int64_t begin : {0, 128, 256}) {
    const std::int64_t columns = std::min<std::int64_t>(128, 300 - begin);
    const QuantizedTensor alone = poisoned_quantized(3, columns, Fp8Scaling::rows, Device::cpu());
    quantize(alone.view(), x->slice(1, begin, columns), cpu_stream);
    EXPECT_TRUE(same_bits(alone.values(), blocks.values().slice(1, begin, columns)));
    for (std::int64_t row = 0; row < 3; ++row) {
      EXPECT_EQ(alone.scales->as<float>()[row], blocks.scales->as<float>()[begin / 128 * 8 + row]);
    }
  }
}

TEST(Quantize, AFixedScaleIsTakenAndWhatIsBeyondItSaturates) {
  const QuantizedTensor rows = poisoned_quantized(1, 3, Fp8Scaling::rows, Device::cpu());
  quantize(rows.view(0.5F), floats({1, 3}, {8, -1000, 0.5F}), cpu_stream);
  EXPECT_EQ(values_of(rows), (std::vector<float>{16, -448, 1}));
  EXPECT_EQ(to_vector(rows.scales), std::vector<float>{0.5F});
}

TEST(Quantize, ZerosStayZerosAndNaNIsNotHidden) {
  const QuantizedTensor rows = poisoned_quantized(2, 2, Fp8Scaling::rows, Device::cpu());
  quantize(rows.view(), floats({2, 2}, {0, -0.0F, NAN, 1}), cpu_stream);
  EXPECT_EQ(element(rows.values(), 0), 0.0F);
  EXPECT_EQ(element(rows.values(), 1), 0.0F);
  EXPECT_GT(rows.scales->as<float>()[0], 0.0F);
  EXPECT_TRUE(std::isnan(element(rows.values(), 2)));
  EXPECT_TRUE(std::isnan(element(rows.values(), 3) * rows.scales->as<float>()[1]));
}

TEST(Quantize, SixteenBitRowsAreQuantizedAsTheFloatsTheyAre) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const Tensor x = random_tensor(dtype, {2, 70}, 3);
    const Tensor wide(DType::f32, Device::cpu(), {2, 70});
    for (std::int64_t i = 0; i < 140; ++i) wide->as<float>()[i] = element(x, i);
    const QuantizedTensor narrow = poisoned_quantized(2, 70, Fp8Scaling::rows, Device::cpu());
    const QuantizedTensor expected = poisoned_quantized(2, 70, Fp8Scaling::rows, Device::cpu());
    quantize(narrow.view(), x, cpu_stream);
    quantize(expected.view(), wide, cpu_stream);
    EXPECT_TRUE(same_bits(narrow.values(), expected.values())) << name(dtype);
  }
}

// The fused forms of an op: `plain` into f32 and quantize(), or `fused` in one.
template <typename Plain, typename Fused>
void expect_the_same_bits(Plain plain, Fused fused) {
  constexpr std::int64_t rows = 4;
  constexpr std::int64_t columns = 300;
  for (const Fp8Scaling scaling : {Fp8Scaling::rows, Fp8Scaling::blocks}) {
    for (const float fixed : {0.0F, 0.01F}) {
      const Tensor wide = poisoned(DType::f32, {rows, columns});
      plain(wide);
      const QuantizedTensor expected = poisoned_quantized(rows, columns, scaling, Device::cpu());
      quantize(expected.view(fixed), wide, cpu_stream);
      const QuantizedTensor out = poisoned_quantized(rows, columns, scaling, Device::cpu());
      fused(out.view(fixed));
      EXPECT_TRUE(same_bits(out.values(), expected.values()));
      EXPECT_EQ(std::memcmp(out.scales->data(), expected.scales->data(), out.scales->bytes()), 0);
    }
  }
}

TEST(Quantize, ANormIsQuantizedInTheSamePass) {
  const Tensor x = random_tensor(DType::f32, {4, 300}, 1);
  const Tensor weight = random_tensor(DType::f32, {300}, 2);
  const NormWeights weights{NormKind::rms, weight, TensorView(), 1e-5F, 0};
  expect_the_same_bits([&](const Tensor& out) { norm(out, x, weights, cpu_stream); },
                       [&](const LinearInput& out) { norm(out, x, weights, cpu_stream); });
  const auto after_sum = [&](const LinearInput& out) {
    const Tensor residual = random_tensor(DType::f32, {4, 300}, 3);
    add_norm(out, residual, x, weights, cpu_stream);
  };
  expect_the_same_bits([&](const Tensor& out) { after_sum(out); }, after_sum);
}

TEST(Quantize, AnActivationIsQuantizedInTheSamePass) {
  const Tensor x = random_tensor(DType::f32, {4, 600}, 1);
  for (const Activation kind : {Activation::silu, Activation::gelu_erf}) {
    const auto gated = [&](const LinearInput& out) { gated_activation(out, x, kind, cpu_stream); };
    expect_the_same_bits([&](const Tensor& out) { gated(out); }, gated);
    const auto simple = [&](const LinearInput& out) {
      activation(out, x->slice(1, 100, 300), kind, cpu_stream);
    };
    expect_the_same_bits([&](const Tensor& out) { simple(out); }, simple);
  }
}

TEST(Quantize, AShapeErrorNamesTheTensor) {
  const QuantizedTensor out = poisoned_quantized(2, 8, Fp8Scaling::rows, Device::cpu());
  const Tensor x(DType::f32, Device::cpu(), {2, 8});
  const Tensor scales(DType::f32, Device::cpu(), {3});
  EXPECT_EQ(shape_error([&] {
              quantize({out.values(), scales}, x, cpu_stream);
            }),
            "quantize: scales is float32 [3] on cpu, expected float32 [2]");
  EXPECT_EQ(shape_error([&] { quantize(x, x, cpu_stream); }), "quantize: out has no scales");
  EXPECT_EQ(shape_error([&] { quantize(out.view(), x, cpu_stream); }), "");
}

}  // namespace
}  // namespace millrace
