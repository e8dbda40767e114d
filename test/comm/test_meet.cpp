// The first words between ranks, when one of them does not say any.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mpi.h>

#include "comm/hosts.hpp"
#include "comm/meet.hpp"

namespace millrace {
namespace {

using ::testing::HasSubstr;

int world_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

std::string complaint(const MeetingLimits& limits) {
  try {
    meet(limits);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

TEST(Meet, AllRanksFindEachOther) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(complaint({}), "");
    MPI_Barrier(MPI_COMM_WORLD);
  }
}

// The last: what it leaves unanswered would reach the next meeting.
TEST(Meet, TheRankThatDoesNotComeIsNamed) {
  if (world_rank() != 2) {
    const std::string said = complaint({.seconds = 0.2, .chiefs_seconds = 0.1});
    EXPECT_THAT(said, HasSubstr(world_rank() == 0 ? "no word from rank 2 of 3"
                                                  : "rank 1 on host " + host_name() +
                                                        " has no word from rank 0, 2"));
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

}  // namespace
}  // namespace millrace
