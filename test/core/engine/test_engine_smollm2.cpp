// SmolLM2-135M on CPUs gives the reference's greedy tokens.
#include <gtest/gtest.h>

#include "comm/environment.hpp"
#include "test/core/engine/smollm2_reference.hpp"

namespace millrace {
namespace {

using test::SmolLm2Reference;

TEST(SmolLm2, GreedyContinuationsEqualTheReference) {
  if (!SmolLm2Reference::is_there()) GTEST_SKIP() << "skipped: MILLRACE_SMOLLM2 is not set";
  const Environment environment;
  const Comm& world = environment.world();
  SmolLm2Reference().expect_greedy(world, {.grid = {.tensor = world.size()}, .dtype = DType::f32},
                                   2e-3);
}

}  // namespace
}  // namespace millrace
