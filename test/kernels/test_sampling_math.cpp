// The arithmetic under sampling against published vectors and against double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/sampling_math.hpp"

namespace millrace {
namespace {

// The known answers of the Random123 distribution.
TEST(Philox, GivesThePublishedWords) {
  const auto words = [](const Philox& p) { return std::vector<std::uint32_t>(p.word, p.word + 4); };
  EXPECT_EQ(words(philox(0, 0, 0, 0, 0)),
            (std::vector<std::uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(words(philox(~std::uint64_t{0}, ~0U, ~0U, ~0U, ~0U)),
            (std::vector<std::uint32_t>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(words(philox(0x299f31d0a4093822, 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344)),
            (std::vector<std::uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

double units_in_last_place(float value, double exact) {
  const auto nearest = static_cast<float>(exact);
  return std::fabs(static_cast<double>(value) - exact) /
         (static_cast<double>(
              std::nextafter(std::fabs(nearest), std::numeric_limits<float>::infinity())) -
          std::fabs(static_cast<double>(nearest)));
}

TEST(SamplingMath, ExpAndLogAreWithinTwoUnitsInTheLastPlace) {
  double worst_exp = 0, worst_log = 0;
  for (float x = 0; x > -87; x = x * 1.0003F - 1e-5F) {
    worst_exp =
        std::max(worst_exp, units_in_last_place(exp_rn(x), std::exp(static_cast<double>(x))));
  }
  for (float x = 1e-12F; x < 1e12F; x *= 1.0007F) {
    worst_log =
        std::max(worst_log, units_in_last_place(log_rn(x), std::log(static_cast<double>(x))));
  }
  EXPECT_LE(worst_exp, 2);
  EXPECT_LE(worst_log, 2);
  EXPECT_EQ(exp_rn(0), 1);
  EXPECT_EQ(exp_rn(-88), 0);
  EXPECT_EQ(exp_rn(-std::numeric_limits<float>::infinity()), 0);
}

TEST(SamplingMath, GumbelFollowsItsFormulaOverAllWords) {
  double worst = 0;
  float largest = -100;
  for (std::uint64_t word = 0; word < (std::uint64_t{1} << 32); word = word * 1.0007 + 1) {
    for (const std::uint64_t w : {word, (std::uint64_t{1} << 32) - 1 - word}) {
      const double u = (static_cast<double>(w >> 1) + 0.5) * 0x1p-31;
      const double exact = -std::log(-std::log1p(-u));
      const float value = gumbel(static_cast<std::uint32_t>(w));
      worst = std::max(worst, std::fabs(value - exact));
      largest = std::max(largest, value);
    }
  }
  EXPECT_LE(worst, 3e-6);
  EXPECT_LE(largest, gumbel_max);
  EXPECT_GE(largest, gumbel_max - 0.1F);
}

TEST(SamplingMath, KeysOrderAsFloatsDo) {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> ascending{-inf, -3e38F, -1, -1e-45F, 0, 1e-45F, 0.5F, 1, 2, 3e38F, inf};
  for (std::size_t i = 0; i + 1 < ascending.size(); ++i) {
    EXPECT_LT(monotone_key(ascending[i]), monotone_key(ascending[i + 1])) << ascending[i];
    EXPECT_EQ(key_float(monotone_key(ascending[i])), ascending[i]);
  }
  EXPECT_EQ(monotone_key(-0.0F), monotone_key(0.0F));
}

TEST(SamplingMath, ACandidateOrdersByValueThenByLowerToken) {
  EXPECT_GT(pack_candidate(1.5F, 9), pack_candidate(1.25F, 3));
  EXPECT_GT(pack_candidate(-1.25F, 9), pack_candidate(-1.5F, 3));
  EXPECT_GT(pack_candidate(1.5F, 3), pack_candidate(1.5F, 4));
  EXPECT_GT(pack_candidate(-3e38F, 2000000000), no_candidate);
  EXPECT_EQ(candidate_value(pack_candidate(-7.25F, 151000)), -7.25F);
  EXPECT_EQ(candidate_token(pack_candidate(-7.25F, 151000)), 151000);
  EXPECT_EQ(candidate_token(no_candidate), -1);
}

TEST(SamplingMath, EveryPartOfTheKeyChangesTheNoise) {
  const auto first = noise_words(noise_key(1, 2, 3), 4, 5).word[0];
  EXPECT_NE(first, noise_words(noise_key(9, 2, 3), 4, 5).word[0]);
  EXPECT_NE(first, noise_words(noise_key(1, 9, 3), 4, 5).word[0]);
  EXPECT_NE(first, noise_words(noise_key(1, std::int64_t{1} << 40, 3), 4, 5).word[0]);
  EXPECT_NE(first, noise_words(noise_key(1, 2, 9), 4, 5).word[0]);
  EXPECT_NE(first, noise_words(noise_key(1, 2, 3), 9, 5).word[0]);
  EXPECT_NE(first, noise_words(noise_key(1, 2, 3), 4, 9).word[0]);
}

}  // namespace
}  // namespace millrace
