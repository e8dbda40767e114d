// The first words between ranks when rank 0 does not answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mpi.h>

#include <stdexcept>
#include <string>

#include "comm/hosts.hpp"
#include "comm/meet.hpp"

namespace millrace {
namespace {

TEST(Meet, ARankThatRankZeroDoesNotAnswerNamesItselfAndItsHost) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank != 0) {
    std::string said;
    try {
      meet({.seconds = 0.2, .chiefs_seconds = 0});
    } catch (const std::runtime_error& error) {
      said = error.what();
    }
    EXPECT_THAT(said, ::testing::HasSubstr("rank " + std::to_string(rank) + " on host " +
                                           host_name() + " has no answer from rank 0"));
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

}  // namespace
}  // namespace millrace
