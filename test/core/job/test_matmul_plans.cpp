// Where measured plans are kept.
#include "core/job/matmul_plans.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

namespace millrace {
namespace {

class CacheFolder : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"MILLRACE_CACHE", "XDG_CACHE_HOME", "HOME"}) unsetenv(name);
  }
};

TEST_F(CacheFolder, IsTheMostSpecificThatTheEnvironmentNames) {
  EXPECT_EQ(cache_folder(), "");
  setenv("HOME", "/home/miller", 1);
  EXPECT_EQ(cache_folder(), "/home/miller/.cache/millrace");
  setenv("XDG_CACHE_HOME", "/caches", 1);
  EXPECT_EQ(cache_folder(), "/caches/millrace");
  setenv("MILLRACE_CACHE", "/plans", 1);
  EXPECT_EQ(cache_folder(), "/plans");
  setenv("MILLRACE_CACHE", "", 1);
  EXPECT_EQ(cache_folder(), "/caches/millrace");
}

}  // namespace
}  // namespace millrace
