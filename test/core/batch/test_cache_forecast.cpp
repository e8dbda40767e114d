// The forecast by hand: caches of 100 blocks of one token, so that a sequence counts its length and
// one more.
#include <gtest/gtest.h>

#include "core/batch/cache_forecast.hpp"

namespace millrace {
namespace {

Sequence sequence(std::int32_t prompt, std::int32_t limit, std::int32_t outputs = 0) {
  auto request = std::make_shared<Request>();
  request->prompt_tokens.assign(static_cast<std::size_t>(prompt), 1);
  Sequence s;
  s.tokens.assign(static_cast<std::size_t>(prompt + outputs), 1);
  s.request = std::move(request);
  s.output_limit = limit;
  return s;
}

bool admits(CacheForecast& forecast, const std::vector<Sequence>& running, const Sequence& next) {
  std::vector<const Sequence*> pointers;
  for (const Sequence& s : running) pointers.push_back(&s);
  forecast.begin(pointers);
  return forecast.admits(next);
}

TEST(CacheForecast, CountsWhatAllWillHoldBeforeTheFirstEnds) {
  CacheForecast forecast(100, 1);
  // Both grow by 21 tokens: 2 * (28 + 1 + 21) = 100.
  EXPECT_TRUE(admits(forecast, {sequence(28, 20)}, sequence(28, 20)));
  EXPECT_FALSE(admits(forecast, {sequence(28, 20)}, sequence(29, 20)));
}

TEST(CacheForecast, WhatEndsEarlierMakesRoom) {
  CacheForecast forecast(100, 1);
  // In 11 steps one holds 60 + 1 + 11 and ends; the other then holds 28 and goes on to 17 + 60.
  EXPECT_TRUE(admits(forecast, {sequence(60, 10)}, sequence(16, 59)));
  EXPECT_FALSE(admits(forecast, {sequence(60, 10)}, sequence(17, 59)));
  // The same with the long one running.
  EXPECT_TRUE(admits(forecast, {sequence(16, 59)}, sequence(60, 10)));
  EXPECT_FALSE(admits(forecast, {sequence(17, 59)}, sequence(60, 10)));
}

TEST(CacheForecast, WhatHasBeenGeneratedIsNotExpectedAgain) {
  CacheForecast forecast(100, 1);
  EXPECT_TRUE(admits(forecast, {sequence(28, 40, 20)}, sequence(8, 20)));  // holds 48, 21 to come
  EXPECT_FALSE(admits(forecast, {sequence(28, 40, 20)}, sequence(9, 20)));
}

TEST(CacheForecast, ASequenceAloneIsAlwaysAdmitted) {
  CacheForecast forecast(100, 1);
  EXPECT_TRUE(admits(forecast, {}, sequence(90, 1000)));
}

TEST(CacheForecast, SeveralAreAdmittedUntilTheCacheIsSpokenFor) {
  CacheForecast forecast(100, 1);
  forecast.begin({});
  EXPECT_TRUE(forecast.admits(sequence(20, 4)));
  EXPECT_TRUE(forecast.admits(sequence(20, 4)));
  EXPECT_TRUE(forecast.admits(sequence(20, 4)));
  EXPECT_FALSE(forecast.admits(sequence(20, 4)));
  EXPECT_TRUE(forecast.admits(sequence(16, 4))) << "what was refused does not count";
}

TEST(CacheForecast, LearnsHowMuchOfTheirLimitSequencesUse) {
  CacheForecast forecast(100, 1);
  EXPECT_FALSE(admits(forecast, {sequence(10, 80)}, sequence(10, 80)));
  // 1 of 10 tokens, often: (100,000 + prior) / (1,000,000 + prior) is about 1/10.
  for (int i = 0; i < 1000; ++i) forecast.finished(sequence(5, 1000, 100));
  EXPECT_TRUE(admits(forecast, {sequence(10, 80)}, sequence(10, 80)));
  EXPECT_FALSE(admits(forecast, {sequence(10, 800)}, sequence(10, 800)));
}

TEST(CacheForecast, WhatNoTokenCanEndIsAsLongAsItMayBe) {
  CacheForecast forecast(100, 1);
  for (int i = 0; i < 1000; ++i) forecast.finished(sequence(5, 1000, 100));
  Sequence fixed = sequence(5, 1000, 10);
  auto request = std::make_shared<Request>(*fixed.request);
  request->sampling.ignore_eos = true;
  request->sampling.stop = {"known to one rank alone"};
  fixed.request = request;
  EXPECT_LT(forecast.remaining_steps(sequence(5, 1000, 10)), 110);
  EXPECT_EQ(forecast.remaining_steps(fixed), 991);
  for (int i = 0; i < 100'000; ++i) forecast.finished(fixed);
  EXPECT_LT(forecast.remaining_steps(sequence(5, 1000, 10)), 110) << "nothing to learn from these";
}

}  // namespace
}  // namespace millrace
