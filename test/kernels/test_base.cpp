#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/base/check.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {
namespace {

TEST(DType, EveryHalfSurvivesTheRoundTripThroughFloat) {
  for (int bits = 0; bits < 65536; ++bits) {
    const Half half{static_cast<std::uint16_t>(bits)};
    const float value = to_float(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(to_float(to_half(value))));
    } else {
      EXPECT_EQ(to_half(value).bits, half.bits);
    }
  }
}

TEST(DType, HalvesRoundToNearestEvenAndOverflowToInfinity) {
  EXPECT_EQ(to_float(to_half(1.0F + 0x1p-11F)), 1.0F);
  EXPECT_EQ(to_float(to_half(1.0F + 3 * 0x1p-11F)), 1.0F + 0x1p-9F);
  EXPECT_EQ(to_float(to_half(0x1p-25F)), 0.0F);
  EXPECT_EQ(to_float(to_half(0x1.8p-25F)), 0x1p-24F);
  EXPECT_EQ(to_float(to_half(65519.0F)), 65504.0F);
  EXPECT_EQ(to_float(to_half(65520.0F)), std::numeric_limits<float>::infinity());
}

TEST(DType, BfloatsRoundToNearestEven) {
  EXPECT_EQ(to_float(to_bfloat16(1.0F + 0x1p-8F)), 1.0F);
  EXPECT_EQ(to_float(to_bfloat16(1.0F + 3 * 0x1p-8F)), 1.0F + 0x1p-6F);
  EXPECT_TRUE(std::isnan(to_float(to_bfloat16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(DType, EveryFp8SurvivesTheRoundTripThroughFloat) {
  for (int bits = 0; bits < 256; ++bits) {
    const Fp8E4m3 value{static_cast<std::uint8_t>(bits)};
    if ((bits & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(to_float(value)));
    } else {
      EXPECT_EQ(to_fp8_e4m3(to_float(value)).bits, bits);
    }
  }
  EXPECT_EQ((to_fp8_e4m3(std::numeric_limits<float>::quiet_NaN()).bits & 0x7f), 0x7f);
}

TEST(DType, Fp8RoundsToNearestEvenAndSaturates) {
  EXPECT_EQ(to_float(to_fp8_e4m3(1.0F + 0x1p-4F)), 1.0F);
  EXPECT_EQ(to_float(to_fp8_e4m3(1.0F + 3 * 0x1p-4F)), 1.25F);
  EXPECT_EQ(to_float(to_fp8_e4m3(0x1p-10F)), 0.0F);
  EXPECT_EQ(to_float(to_fp8_e4m3(0x1.8p-10F)), 0x1p-9F);
  EXPECT_EQ(to_float(to_fp8_e4m3(0x1.fp-7F)), 0x1p-6F);
  EXPECT_EQ(to_float(to_fp8_e4m3(463.9F)), 448.0F);
  EXPECT_EQ(to_float(to_fp8_e4m3(-1e9F)), -448.0F);
}

TEST(DType, AnUnknownNameIsTheUsersError) {
  EXPECT_EQ(parse_dtype("BF16"), DType::bf16);
  EXPECT_THROW(parse_dtype("float7"), UserError);
}

TEST(Tensor, ASliceOfColumnsKeepsItsRowStride) {
  const Tensor tensor(DType::f32, Device::cpu(), {3, 5});
  const TensorView columns = tensor->slice(1, 2, 2);
  EXPECT_EQ(columns.data(), tensor->as<float>() + 2);
  EXPECT_EQ(columns.stride(0), 5);
  EXPECT_FALSE(columns.is_contiguous());
  EXPECT_THROW(columns.reshape({6}), ShapeError);
  EXPECT_THROW(tensor->slice(0, 2, 2), ShapeError);
}

TEST(Tensor, ReadingAsAnotherTypeIsRefused) {
  const Tensor tensor(DType::bf16, Device::cpu(), {2});
  EXPECT_THROW(tensor->as<float>(), ShapeError);
}

TEST(Check, TheMessageNamesTheOpTheTensorAndBothShapes) {
  const Tensor tensor(DType::f32, Device::cpu(), {3, 5});
  try {
    check_tensor("rmsnorm", "weight", tensor, DType::f32, {-1, 4});
    FAIL();
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(),
                 "rmsnorm: weight is float32 [3, 5] on cpu, expected float32 [-1, 4]");
  }
}

TEST(Buffer, MoreThanTheMachineHasIsTheUsersError) {
  EXPECT_THROW(Buffer(std::size_t{1} << 60, Device::cpu()), UserError);
}

}  // namespace
}  // namespace millrace
