// Products with fp8 weights on the CPU: by hand, the fast version against the plain one, and a
// row's independence of its batch.
#include <gmock/gmock.h>
#include <omp.h>

#include "test/kernels/linear_check.hpp"
#include "test/kernels/on_every_isa.hpp"
#include "test/kernels/quantized_tensor.hpp"

namespace millrace {
namespace {

TEST(LinearFp8, RowsTimesScalesByHand) {
  // Quantized: {448, 224} * 1/224 and {-448, 112} * 1/112.
  const QuantizedTensor x = poisoned_quantized(2, 2, Fp8Scaling::rows, Device::cpu());
  quantize(x.view(), floats({2, 2}, {2, 1, -4, 1}), cpu_stream);
  Tensor w(DType::fp8_e4m3, Device::cpu(), {3, 2});
  const float elements[] = {1, 0, 2, 3, -1, 448};
  for (int i = 0; i < 6; ++i) w->as<Fp8E4m3>()[i] = to_fp8_e4m3(elements[i]);
  const LinearWeight packed =
      pack_linear_fp8(w, floats({3}, {0.5F, 2, 0.25F}), 0, Device::cpu(), cpu_stream);
  const Tensor out = poisoned(DType::f32, {2, 3});
  linear(out, x.view(), packed, TensorView(), false, cpu_stream);
  EXPECT_EQ(to_vector(out), (std::vector<float>{1, 14, 111.5F, -2, -10, 113}));
  linear(out, x.view(), packed, floats({3}, {1, 2, 3}), true, cpu_stream);
  EXPECT_EQ(to_vector(out), (std::vector<float>{3, 30, 226, -3, -18, 229}));
}

TEST(LinearFp8, BlocksOfTheWeightHaveTheirOwnScale) {
  const Tensor w(DType::fp8_e4m3, Device::cpu(), {160, 200});
  for (std::int64_t i = 0; i < w->numel(); ++i) w->as<Fp8E4m3>()[i] = to_fp8_e4m3(1);
  const LinearWeight packed =
      pack_linear_fp8(w, floats({2, 2}, {1, 100, 10, 1000}), 0, Device::cpu(), cpu_stream);
  const QuantizedTensor x = poisoned_quantized(1, 200, Fp8Scaling::blocks, Device::cpu());
  const Tensor ones(DType::f32, Device::cpu(), {1, 200});
  std::fill_n(ones->as<float>(), 200, 1.0F);
  quantize(x.view(), ones, cpu_stream);
  const Tensor out = poisoned(DType::f32, {1, 160});
  linear(out, x.view(), packed, TensorView(), false, cpu_stream);
  for (std::int64_t j = 0; j < 160; ++j) {
    const float expected = j < 128 ? 128 + 72 * 100 : 1280 + 72 * 1000;
    EXPECT_NEAR(out->as<float>()[j], expected, 1e-2F) << j;
  }
}

TEST(LinearFp8, EveryFp8NumberIsWidenedExactly) {
  const Tensor w(DType::fp8_e4m3, Device::cpu(), {256, 1});
  for (int bits = 0; bits < 256; ++bits) {
    w->as<Fp8E4m3>()[bits].bits = static_cast<std::uint8_t>(bits);
  }
  const Tensor scales(DType::f32, Device::cpu(), {256});
  std::fill_n(scales->as<float>(), 256, 1.0F);
  const LinearWeight packed = pack_linear_fp8(w, scales, 0, Device::cpu(), cpu_stream);
  const QuantizedTensor x = poisoned_quantized(1, 1, Fp8Scaling::rows, Device::cpu());
  quantize(x.view(1), floats({1, 1}, {1}), cpu_stream);
  const Tensor out = poisoned(DType::f32, {1, 256});
  linear(out, x.view(), packed, TensorView(), false, cpu_stream);
  for (int bits = 0; bits < 256; ++bits) {
    const float expected = to_float(Fp8E4m3{static_cast<std::uint8_t>(bits)});
    const float got = out->as<float>()[bits];
    EXPECT_TRUE(got == expected || (std::isnan(got) && std::isnan(expected))) << bits;
  }
}

TEST(LinearFp8, AQuantizedWeightIsWithinHalfAStepOfTheWeight) {
  const Tensor w = random_tensor(DType::bf16, {40, 70}, 1);
  const LinearWeight packed = quantize_linear(w, Device::cpu(), cpu_stream);
  // Row i of the identity, quantized exactly, gives column i of the weight.
  const Tensor identity(DType::f32, Device::cpu(), {70, 70});
  std::fill_n(identity->as<float>(), 70 * 70, 0.0F);
  for (std::int64_t i = 0; i < 70; ++i) identity->as<float>()[i * 71] = 448;
  const QuantizedTensor x = poisoned_quantized(70, 70, Fp8Scaling::rows, Device::cpu());
  quantize(x.view(), identity, cpu_stream);
  const Tensor out = poisoned(DType::f32, {70, 40});
  linear(out, x.view(), packed, TensorView(), false, cpu_stream);
  for (std::int64_t j = 0; j < 40; ++j) {
    float largest = 0;
    for (std::int64_t i = 0; i < 70; ++i) {
      largest = std::max(largest, std::fabs(element(w, j * 70 + i)));
    }
    for (std::int64_t i = 0; i < 70; ++i) {
      const float exact = element(w, j * 70 + i);
      const float step = std::max(std::fabs(exact) * 0x1p-4F, largest / 448 * 0x1p-10F);
      EXPECT_NEAR(out->as<float>()[i * 40 + j] / 448, exact, step * 1.01F);
    }
  }
}

class FastLinearFp8 : public IsaTest<Fp8Scaling> {};

TEST_P(FastLinearFp8, AgreesWithThePlainVersionAtOddSizes) {
  const std::int64_t sizes[][3] = {{1, 1, 1},     {1, 31, 7},     {2, 32, 256},   {3, 33, 255},
                                   {5, 129, 257}, {47, 130, 300}, {241, 40, 259}, {250, 33, 2100}};
  for (const auto& [m, n, k] : sizes) {
    const QuantizedTensor x = random_quantized(m, k, what(), 1);
    const LinearWeight w = random_fp8_weight(n, k, what(), 2).packed(Device::cpu(), cpu_stream);
    expect_fast_as_plain(x.view(), w, random_tensor(DType::f32, {n}, 3));
  }
}

TEST_P(FastLinearFp8, ARowsBitsDependNeitherOnTheBatchNorOnThreads) {
  constexpr std::int64_t m = 53, n = 99, k = 2100;
  const Tensor wide = random_tensor(DType::f32, {m, k}, 5);
  const LinearWeight w = random_fp8_weight(n, k, what(), 6).packed(Device::cpu(), cpu_stream);
  const auto product = [&](std::int64_t first, std::int64_t rows) {
    const QuantizedTensor x = poisoned_quantized(rows, k, what(), Device::cpu());
    quantize(x.view(), wide->slice(0, first, rows), cpu_stream);
    Tensor out = poisoned(DType::f32, {rows, n});
    linear(out, x.view(), w, TensorView(), false, cpu_stream);
    return out;
  };
  const Tensor alone = poisoned(DType::f32, {m, n});
  for (std::int64_t i = 0; i < m; ++i) copy(alone->slice(0, i, 1), product(i, 1), cpu_stream);
  for (const int threads : {1, 3}) {
    omp_set_num_threads(threads);
    for (const std::int64_t rows : {2, 7, 31, 53}) {
      EXPECT_TRUE(same_bits(product(m - rows, rows), alone->slice(0, m - rows, rows))) << rows;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryInstructionSetAndScaling, FastLinearFp8,
                         testing::ValuesIn(on_every_isa({Fp8Scaling::rows, Fp8Scaling::blocks})),
                         isa_case_name);

TEST(LinearFp8, InputAndWeightAreQuantizedAlike) {
  const LinearWeight w =
      random_fp8_weight(4, 6, Fp8Scaling::rows, 1).packed(Device::cpu(), cpu_stream);
  const Tensor out(DType::f32, Device::cpu(), {3, 4});
  const Tensor plain(DType::f32, Device::cpu(), {3, 6});
  const QuantizedTensor blocks = random_quantized(3, 6, Fp8Scaling::blocks, 1);
  for (const LinearInput& x : {LinearInput(plain), blocks.view()}) {
    EXPECT_THAT(shape_error([&] { linear(out, x, w, TensorView(), false, cpu_stream); }),
                testing::HasSubstr("not quantized as the weight is"));
  }
}

}  // namespace
}  // namespace millrace
