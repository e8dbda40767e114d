// What replicas did, on the rank that reports it.
#include <gtest/gtest.h>

#include "comm/environment.hpp"
#include "comm/grid.hpp"
#include "core/job/job_report.hpp"

namespace millrace {
namespace {

// The first replicas to ask get all prompts of a short file, so rank 0's may have none.
TEST(Outcomes, TheFirstTokenIsThatOfTheFirstReplicaThatHasOne) {
  const Environment environment;
  const Comm& world = environment.world();
  const Grid grid(world, {world.size(), 1, 1});
  ReplicaOutcome mine;
  mine.counters.output_tokens = world.rank();
  mine.first_token_seconds = world.rank() == 0 ? 0 : 5 - world.rank();  // none, 4, 3
  mine.started_seconds = 1;
  mine.finished_seconds = 2 + world.rank();
  Report report;
  const double first = add_outcomes(grid, mine, 0.5, report);
  if (world.rank() != 0) return;
  EXPECT_EQ(first, 3);
  EXPECT_EQ(report.summary.output_tokens, 3);
  EXPECT_EQ(report.summary.run_seconds, 3);
}

TEST(Outcomes, ThereMayBeNoTokenAtAll) {
  const Environment environment;
  const Comm& world = environment.world();
  const Grid grid(world, {world.size(), 1, 1});
  Report report;
  EXPECT_EQ(add_outcomes(grid, {}, 0.5, report), 0);
}

}  // namespace
}  // namespace millrace
