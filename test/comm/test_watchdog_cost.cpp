// What the watchdog costs while all is well.
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <thread>

#include "comm/environment.hpp"
#include "comm/watchdog.hpp"

namespace millrace {
namespace {

TEST(Watchdog, TakesLessThanAHundredthOfACore) {
  const Environment environment;
  const Watchdog watchdog(environment.world(), "test");
  environment.world().barrier();
  const std::clock_t before = std::clock();  // processor time of all threads
  std::this_thread::sleep_for(std::chrono::seconds(3));
  const double busy_seconds = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(busy_seconds, 0.03);
  RecordProperty("busy_microseconds_per_second", static_cast<int>(busy_seconds * 1e6 / 3));
  environment.world().barrier();
}

}  // namespace
}  // namespace millrace
