// A limit that is kept, and one that is not.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "comm/time_limit.hpp"

namespace millrace {
namespace {

TEST(TimeLimit, ThatIsKeptDoesNothing) {
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 10; ++i) {
    const TimeLimit limit(60, "never printed");
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST(TimeLimitDeathTest, ThatIsOverEndsTheProcessWithItsLine) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        const TimeLimit limit(0.05, "host n1 has no answer from host n2");
        std::this_thread::sleep_for(std::chrono::seconds(30));
      },
      "host n1 has no answer from host n2");
}

}  // namespace
}  // namespace millrace
