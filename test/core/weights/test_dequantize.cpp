#include <gtest/gtest.h>

#include "core/weights/gguf_checkpoint.hpp"
#include "samples.hpp"

namespace millrace {
namespace {

using test::read_values;

class Dequantize : public ::testing::TestWithParam<const char*> {
 protected:
  std::vector<float> expected(Range rows, Range columns) {
    return read_values(*blocks_, std::string(GetParam()) + ".values", rows, columns);
  }

  // Made by test/data/make_quantized_blocks.py.
  std::unique_ptr<Checkpoint> blocks_ = open_checkpoint({{}, MILLRACE_TEST_DATA "/quantized.gguf"});
};

TEST_P(Dequantize, EqualsTheGgufPackageBitByBit) {
  EXPECT_EQ(read_values(*blocks_, GetParam(), {0, 3}, {0, 512}), expected({0, 3}, {0, 512}));
}

TEST_P(Dequantize, ARectangleMayCutBlocks) {
  for (const Range columns : {Range{0, 32}, Range{31, 2}, Range{100, 300}, Range{511, 1}}) {
    EXPECT_EQ(read_values(*blocks_, GetParam(), {1, 2}, columns), expected({1, 2}, columns));
  }
}

TEST_P(Dequantize, SixteenBitTargetsAreTheRoundedValues) {
  const std::vector<float> exact = expected({0, 3}, {0, 512});
  const auto halves = read_values(*blocks_, GetParam(), {0, 3}, {0, 512}, DType::f16);
  const auto brains = read_values(*blocks_, GetParam(), {0, 3}, {0, 512}, DType::bf16);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    EXPECT_EQ(halves[i], to_float(to_half(exact[i])));
    EXPECT_EQ(brains[i], to_float(to_bfloat16(exact[i])));
  }
}

INSTANTIATE_TEST_SUITE_P(EveryType, Dequantize,
                         ::testing::Values("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K",
                                           "Q6_K"),
                         [](const auto& type) { return std::string(type.param); });

}  // namespace
}  // namespace millrace
