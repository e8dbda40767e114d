// Made-up numbers: by hand, in parts, transposed, in every dtype.
#include "kernels/made_up.hpp"

#include <gtest/gtest.h>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

Tensor made(DType dtype, std::int64_t rows, std::int64_t columns, const MadeUpPlaces& places) {
  Tensor out(dtype, Device::cpu(), {rows, columns});
  make_up(out, {.key = 42, .center = 0.5F, .unit = 0x1p-15F}, places, {});
  return out;
}

TEST(MadeUp, FourNumbersComeOutOfOneWord) {
  const Tensor out = made(DType::f32, 2, 3, {.first = 2, .row_step = 3});
  for (std::int64_t i = 0; i < 6; ++i) {
    const std::int64_t place = i + 2;
    const std::uint64_t word = mix(42 + static_cast<std::uint64_t>(place / 4));
    const auto bits = static_cast<std::int16_t>(word >> (16 * (place % 4)));
    EXPECT_EQ(out->as<float>()[i], 0.5F + static_cast<float>(bits) / 32768.0F) << place;
  }
}

TEST(MadeUp, APartOfTheTransposeIsTheTransposeOfAPart) {
  const Tensor part = made(DType::f32, 5, 7, {.first = 100, .row_step = 64});
  const Tensor turned = made(DType::f32, 7, 5, {.first = 100, .row_step = 1, .column_step = 64});
  for (std::int64_t row = 0; row < 5; ++row) {
    for (std::int64_t column = 0; column < 7; ++column) {
      EXPECT_EQ(part->as<float>()[row * 7 + column], turned->as<float>()[column * 5 + row]);
    }
  }
}

TEST(MadeUp, EveryDtypeIsTheFloatRounded) {
  const MadeUpPlaces places{.first = 3, .row_step = 40};
  const Tensor exact = made(DType::f32, 4, 37, places);
  const Tensor bf16 = made(DType::bf16, 4, 37, places);
  const Tensor f16 = made(DType::f16, 4, 37, places);
  const Tensor fp8 = made(DType::fp8_e4m3, 4, 37, places);
  for (std::int64_t i = 0; i < exact->numel(); ++i) {
    const float value = exact->as<float>()[i];
    EXPECT_EQ(bf16->as<Bfloat16>()[i].bits, to_bfloat16(value).bits);
    EXPECT_EQ(f16->as<Half>()[i].bits, to_half(value).bits);
    EXPECT_EQ(fp8->as<Fp8E4m3>()[i].bits, to_fp8_e4m3(value).bits);
  }
}

TEST(MadeUp, OnlyFloatTypesAreMade) {
  const Tensor out(DType::i32, Device::cpu(), {1, 4});
  EXPECT_THROW(make_up(out, {}, {}, {}), ShapeError);
}

}  // namespace
}  // namespace millrace
