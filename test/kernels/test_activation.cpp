// Activations against the C library in double precision.
#include "kernels/activation.hpp"

#include <functional>

#include "kernels/simd/isa.hpp"
#include "test/kernels/random_tensor.hpp"

namespace millrace {
namespace {

struct Function {
  Activation kind;
  double (*exact)(double);
};

const Function functions[] = {
    {Activation::silu, [](double x) { return x / (1 + std::exp(-x)); }},
    {Activation::gelu_tanh,
     [](double x) {
       return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
     }},
    {Activation::gelu_erf, [](double x) { return x / 2 * std::erfc(-x / std::sqrt(2)); }},
    {Activation::relu, [](double x) { return x > 0 ? x : 0; }},
    {Activation::quick_gelu, [](double x) { return x / (1 + std::exp(-1.702 * x)); }}};

class Activations : public testing::TestWithParam<cpu::Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > cpu::best_isa()) GTEST_SKIP() << "this processor does not have it";
    cpu::use_isa(GetParam());
  }
  void TearDown() override { cpu::use_isa(cpu::best_isa()); }
};

// From far in the left tail to far in the right, subnormals and zeros between.
std::vector<float> arguments() {
  std::vector<float> x{0, -0.0F, 1e-40F, -1e-40F, 1e-20F, 100, -100, 3e38F, -3e38F};
  for (float v = -30; v < 30; v += 0.0137F) x.push_back(v);
  for (float v = 1e-6F; v < 1; v *= 1.05F) x.push_back(-v);
  return x;
}

TEST_P(Activations, AreWithinAFewUnitsInTheLastPlace) {
  const std::vector<float> values = arguments();
  const auto n = static_cast<std::int64_t>(values.size());
  const Tensor x = floats({1, n}, values);
  for (const Function& function : functions) {
    const Tensor out = poisoned(DType::f32, {1, n});
    activation(out, x, function.kind, cpu_stream);
    double worst = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double exact = function.exact(values[static_cast<std::size_t>(i)]);
      const double error = std::fabs(out->as<float>()[i] - exact);
      // In units in the last place; deep in the tails, against the size of the result that matters.
      if (error > 0) worst = std::max(worst, error / std::max(std::fabs(exact) * 0x1p-23, 1e-9));
    }
    EXPECT_LE(worst, 5) << static_cast<int>(function.kind);
  }
}

TEST_P(Activations, GatedIsTheProductWithTheSecondHalf) {
  for (const std::int64_t n : {1, 5, 16, 37, 1536}) {
    const Tensor gate_up = random_tensor(DType::f32, {3, 2 * n}, 41, 3);
    for (const Function& function : functions) {
      const Tensor out = poisoned(DType::f32, {3, n});
      gated_activation(out, gate_up, function.kind, cpu_stream);
      for (std::int64_t t = 0; t < 3; ++t) {
        const float* row = gate_up->as<float>() + t * 2 * n;
        for (std::int64_t i = 0; i < n; ++i) {
          const double exact = function.exact(row[i]) * row[n + i];
          ASSERT_NEAR(out->as<float>()[t * n + i], exact, std::fabs(exact) * 1e-6 + 1e-9) << n;
        }
      }
    }
  }
}

TEST_P(Activations, AnElementsBitsDoNotDependOnItsPlaceInTheRow) {
  const std::vector<float> values = arguments();
  const auto n = static_cast<std::int64_t>(values.size());
  const Tensor x = floats({n, 1}, values);
  for (const Function& function : functions) {
    const Tensor apart = poisoned(DType::f32, {n, 1});
    const Tensor together = poisoned(DType::f32, {1, n});
    activation(apart, x, function.kind, cpu_stream);
    activation(together, x->reshape({1, n}), function.kind, cpu_stream);
    EXPECT_TRUE(same_bits(apart->reshape({1, n}), together));
  }
}

TEST_P(Activations, MayWriteOverTheirInput) {
  const Tensor x = random_tensor(DType::f32, {2, 45}, 42);
  const Tensor out = poisoned(DType::f32, {2, 45});
  activation(out, x, Activation::silu, cpu_stream);
  activation(x, x, Activation::silu, cpu_stream);
  EXPECT_TRUE(same_bits(x, out));
}

TEST_P(Activations, ANanStaysOne) {
  for (const Function& function : functions) {
    const Tensor x = floats({1, 2}, {std::numeric_limits<float>::quiet_NaN(), 1});
    activation(x, x, function.kind, cpu_stream);
    EXPECT_TRUE(std::isnan(x->as<float>()[0])) << static_cast<int>(function.kind);
  }
}

TEST_P(Activations, SoftcapBoundsLogits) {
  const std::vector<float> values{-1000, -50, -3, -0.01F, 0, 0.01F, 3, 50, 1000};
  const auto n = static_cast<std::int64_t>(values.size());
  const Tensor x = floats({1, n}, values);
  scale_softcap(x, 0.5F, 30, cpu_stream);
  for (std::int64_t i = 0; i < n; ++i) {
    const double exact = 30 * std::tanh(0.5 * values[static_cast<std::size_t>(i)] / 30);
    EXPECT_NEAR(x->as<float>()[i], exact, std::fabs(exact) * 5e-7);
  }
  const Tensor scaled = floats({1, 2}, {4, -6});
  scale_softcap(scaled, 0.5F, 0, cpu_stream);
  EXPECT_EQ(to_vector(scaled), (std::vector<float>{2, -3}));
}

INSTANTIATE_TEST_SUITE_P(EveryInstructionSet, Activations,
                         testing::Values(cpu::Isa::portable, cpu::Isa::avx2, cpu::Isa::avx512),
                         [](const auto& tested) { return std::string(name(tested.param)); });

TEST(Activation, AShapeErrorNamesTheTensor) {
  const Tensor out(DType::f32, Device::cpu(), {2, 8});
  EXPECT_EQ(shape_error([&] { gated_activation(out, out, Activation::silu, cpu_stream); }),
            "gated_activation: gate_up is float32 [2, 8] on cpu, expected float32 [2, 16]");
}

}  // namespace
}  // namespace millrace
