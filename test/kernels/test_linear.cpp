// The product against hand-computed numbers, the fast version against the plain one, and the
// promise that a row's bits depend on nothing but the row.
#include <omp.h>

#include "kernels/linear.hpp"
#include "kernels/linear_tuning.hpp"
#include "test/kernels/linear_check.hpp"
#include "test/kernels/on_every_isa.hpp"

namespace millrace {
namespace {

LinearWeight packed(const TensorView& w) { return pack_linear(w, Device::cpu(), cpu_stream); }

TEST(Linear, TwoByThreeByHand) {
  const Tensor x = floats({2, 3}, {1, 2, 3, -1, 0, 4});
  const LinearWeight w = packed(floats({2, 3}, {1, 0, 2, 3, -1, 1}));
  const Tensor out = poisoned(DType::f32, {2, 2});
  linear(out, x, w, TensorView(), false, cpu_stream);
  EXPECT_EQ(to_vector(out), (std::vector<float>{7, 4, 7, 1}));
  linear(out, x, w, floats({2}, {100, 200}), false, cpu_stream);
  EXPECT_EQ(to_vector(out), (std::vector<float>{107, 204, 107, 201}));
  linear(out, x, w, TensorView(), true, cpu_stream);
  EXPECT_EQ(to_vector(out), (std::vector<float>{114, 208, 114, 202}));
}

class FastLinear : public IsaTest<DType> {};

// Sizes around the tile heights, the panel width, the k block and the row block.
TEST_P(FastLinear, AgreesWithThePlainVersionAtOddSizes) {
  const std::int64_t sizes[][3] = {{1, 1, 1},      {1, 31, 7},     {2, 32, 256},   {3, 33, 255},
                                   {5, 64, 257},   {12, 70, 31},   {13, 95, 512},  {25, 100, 515},
                                   {47, 33, 300},  {49, 130, 600}, {241, 40, 259}, {250, 65, 530},
                                   {250, 33, 2100}};
  for (const auto& [m, n, k] : sizes) {
    const Tensor x = random_tensor(DType::f32, {m, k}, 1);
    const LinearWeight w = packed(random_tensor(what(), {n, k}, 2));
    expect_fast_as_plain(x, w, TensorView());
    expect_fast_as_plain(x, w, random_tensor(DType::f32, {n}, 3));
  }
}

TEST_P(FastLinear, ARowsBitsDependNeitherOnTheBatchNorOnItsPlaceNorOnThreads) {
  constexpr std::int64_t m = 77, n = 99, k = 515;
  const Tensor x = random_tensor(DType::f32, {m, k}, 5);
  const LinearWeight w = packed(random_tensor(what(), {n, k}, 6));
  const Tensor bias = random_tensor(DType::f32, {n}, 7);
  const Tensor alone = poisoned(DType::f32, {m, n});
  for (std::int64_t i = 0; i < m; ++i) {
    linear(alone->slice(0, i, 1), x->slice(0, i, 1), w, bias, false, cpu_stream);
  }
  for (const int threads : {1, 2, 5}) {
    omp_set_num_threads(threads);
    for (std::int64_t rows = 2; rows <= m; rows += rows < 30 && threads == 1 ? 1 : 15) {
      const std::int64_t first = m - rows;
      const Tensor together = poisoned(DType::f32, {rows, n});
      linear(together, x->slice(0, first, rows), w, bias, false, cpu_stream);
      EXPECT_TRUE(same_bits(together, alone->slice(0, first, rows)))
          << rows << " rows, " << threads << " threads";
    }
  }
}

// With this many rows and inputs, sums rest in `out` between two steps over k; a row alone takes
// one.
TEST_P(FastLinear, ARowsBitsDoNotDependOnHowTheSumIsCut) {
  constexpr std::int64_t m = 250, n = 40, k = 2100;
  const Tensor x = random_tensor(DType::f32, {m, k}, 10);
  const LinearWeight w = packed(random_tensor(what(), {n, k}, 11));
  const Tensor bias = random_tensor(DType::f32, {n}, 12);
  const Tensor together = random_tensor(DType::f32, {m, n}, 13);
  const Tensor alone = random_tensor(DType::f32, {m, n}, 13);
  linear(together, x, w, bias, true, cpu_stream);
  for (std::int64_t i = 0; i < m; ++i) {
    linear(alone->slice(0, i, 1), x->slice(0, i, 1), w, bias, true, cpu_stream);
  }
  EXPECT_TRUE(same_bits(together, alone));
}

TEST_P(FastLinear, ReadsAndWritesStridedRowsAndNothingBetweenThem) {
  const Tensor wide_x = random_tensor(DType::f32, {9, 80}, 8);
  const Tensor wide_out = poisoned(DType::f32, {9, 90});
  const LinearWeight w = packed(random_tensor(what(), {50, 40}, 9));
  const TensorView x = wide_x->slice(1, 20, 40);
  const TensorView out = wide_out->slice(1, 10, 50);
  linear(out, x, w, TensorView(), false, cpu_stream);
  const Tensor plain = poisoned(DType::f32, {9, 50});
  cpu::linear_plain(plain, x, w, TensorView(), false, cpu_stream);
  EXPECT_LE(largest_difference(out, plain), 1e-4F);
  for (std::int64_t i = 0; i < 9; ++i) {
    EXPECT_TRUE(std::isnan(wide_out->as<float>()[i * 90 + 9]));
    EXPECT_TRUE(std::isnan(wide_out->as<float>()[i * 90 + 60]));
  }
}

// A weight of powers of two makes every product and sum exact, so even subnormals must be widened
// exactly.
TEST_P(FastLinear, SixteenBitWeightsAreWidenedExactly) {
  if (what() == DType::f32) GTEST_SKIP() << "nothing to widen";
  std::vector<std::uint16_t> finite;
  for (int bits = 0; bits < 65536; ++bits) {
    const bool is_finite =
        what() == DType::f16 ? (bits & 0x7c00) != 0x7c00 : (bits & 0x7f80) != 0x7f80;
    if (is_finite) finite.push_back(static_cast<std::uint16_t>(bits));
  }
  const auto n = static_cast<std::int64_t>(finite.size());
  const Tensor w(what(), Device::cpu(), {n, 1});
  std::memcpy(w->data(), finite.data(), finite.size() * 2);
  const LinearWeight weight = packed(w);
  for (const std::int64_t m : {std::int64_t{1}, std::int64_t{40}}) {
    const Tensor x(DType::f32, Device::cpu(), {m, 1});
    std::fill_n(x->as<float>(), m, 1.0F);
    const Tensor out = poisoned(DType::f32, {m, n});
    linear(out, x, weight, TensorView(), false, cpu_stream);
    std::int64_t wrong = 0;
    for (std::int64_t j = 0; j < n; ++j) {
      const std::uint16_t bits = finite[static_cast<std::size_t>(j)];
      const float expected = what() == DType::f16 ? to_float(Half{bits}) : to_float(Bfloat16{bits});
      for (std::int64_t i = 0; i < m; ++i) wrong += out->as<float>()[i * n + j] != expected ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(EveryInstructionSetAndDType, FastLinear,
                         testing::ValuesIn(on_every_isa({DType::f32, DType::bf16, DType::f16})),
                         isa_case_name);

TEST(Linear, AShapeErrorNamesTheTensor) {
  const LinearWeight w = packed(random_tensor(DType::f32, {4, 6}, 1));
  const Tensor x(DType::f32, Device::cpu(), {3, 6});
  const Tensor out(DType::f32, Device::cpu(), {3, 4});
  const Tensor narrow(DType::f32, Device::cpu(), {3, 5});
  const Tensor bias(DType::f32, Device::cpu(), {5});
  const auto run = [&](const TensorView& o, const TensorView& i, const TensorView& b) {
    return shape_error([&] { linear(o, i, w, b, false, cpu_stream); });
  };
  EXPECT_EQ(run(out, narrow, TensorView()),
            "linear: x is float32 [3, 5] on cpu, expected float32 [-1, 6]");
  EXPECT_EQ(run(narrow, x, TensorView()),
            "linear: out is float32 [3, 5] on cpu, expected float32 [3, 4]");
  EXPECT_EQ(run(out, x, bias), "linear: bias is float32 [5] on cpu, expected float32 [4]");
  EXPECT_EQ(run(out, x, TensorView()), "");
}

TEST(Linear, RowCountsShareABucketWithTheLargestOfThem) {
  EXPECT_EQ(row_buckets(40), (std::vector<std::int64_t>{1, 2, 4, 8, 16, 32, 48}));
  for (std::int64_t m = 1; m < 10000; ++m) {
    ASSERT_GE(row_bucket(m), m);
    ASSERT_EQ(row_bucket(row_bucket(m)), row_bucket(m));
  }
  EXPECT_EQ(row_bucket(513), 576);
  EXPECT_EQ(row_buckets(8192).back(), 8192);
}

TEST(Linear, NoRowsIsLegal) {
  const LinearWeight w = packed(random_tensor(DType::f32, {4, 6}, 1));
  const Tensor x(DType::f32, Device::cpu(), {0, 6});
  const Tensor out(DType::f32, Device::cpu(), {0, 4});
  linear(out, x, w, TensorView(), false, cpu_stream);
}

}  // namespace
}  // namespace millrace
