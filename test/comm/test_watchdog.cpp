// Whole jobs that fail under mpirun: they end soon, with the right exit code and one line that
// names the cause. The program that fails is watchdog_victim.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

struct Ended {
  int exit_code = -1;
  double seconds = 0;
  std::vector<std::string> lines;  // of the program, without what mpirun adds
};

Ended run(int ranks, const std::string& name) {
  const std::string command = "timeout --kill-after=5 60 " MILLRACE_MPIEXEC " -n " +
                              std::to_string(ranks) + " --oversubscribe --bind-to none " +
                              MILLRACE_VICTIM " " + name + " 2>&1";
  Ended ended;
  const auto start = std::chrono::steady_clock::now();
  FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 4096> line{};
  while (std::fgets(line.data(), line.size(), pipe) != nullptr) {
    const std::string text(line.data());
    if (text.starts_with("victim: ")) {
      ended.lines.push_back(text.substr(0, text.find('\n')));
    }
  }
  const int status = pclose(pipe);
  ended.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  ended.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return ended;
}

TEST(RunMain, ASuccessfulJobSaysNothing) {
  for (const int ranks : {1, 3}) {
    const Ended ended = run(ranks, "success");
    EXPECT_EQ(ended.exit_code, 0);
    EXPECT_THAT(ended.lines, IsEmpty());
  }
}

TEST(RunMain, AMistakeSeenByAllRanksIsPrintedOnce) {
  for (const int ranks : {1, 4}) {
    const Ended ended = run(ranks, "user_error_on_all");
    EXPECT_EQ(ended.exit_code, 2);
    EXPECT_THAT(ended.lines, ElementsAre("victim: no such model: nowhere"));
  }
}

TEST(RunMain, AMistakeAgreedByAllRanksNamesTheRankThatMetIt) {
  const Ended ended = run(3, "user_error_agreed");
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_THAT(ended.lines,
              ElementsAre(MatchesRegex("victim: rank 2 on host .*: file 7 is truncated")));
}

TEST(RunMain, AMistakeOnOneRankEndsTheJobThatWaitsForIt) {
  const Ended ended = run(3, "user_error_on_one");
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_LT(ended.seconds, 15);
  EXPECT_THAT(ended.lines, ElementsAre(MatchesRegex("victim: rank 2 on host .*: my disk is full")));
}

TEST(RunMain, TheSameMistakeOnSomeRanksIsPrintedOnce) {
  const Ended ended = run(4, "user_error_on_some");
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_LT(ended.seconds, 15);
  EXPECT_THAT(ended.lines,
              ElementsAre(MatchesRegex("victim: rank 1 on host .*: no space in /scratch")));
}

TEST(RunMain, ABugHasItsOwnExitCode) {
  const Ended ended = run(2, "bug_on_one");
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_THAT(ended.lines, ElementsAre(MatchesRegex("victim: rank 1 on host .*: index 3 of 2")));
}

TEST(Watchdog, AKilledRankEndsTheJob) {
  const Ended ended = run(3, "killed");
  EXPECT_LT(ended.seconds, 15);
  EXPECT_THAT(
      ended.lines,
      ElementsAre(MatchesRegex("victim: rank 2 on host .* died in step 50, .*: the job ends")));
}

TEST(Watchdog, ARankThatLeavesWithoutAWordEndsTheJob) {
  const Ended ended = run(3, "exits");
  EXPECT_NE(ended.exit_code, 0);
  EXPECT_LT(ended.seconds, 15);
}

TEST(Watchdog, ASilentRankIsNamedWithItsLastStep) {
  const Ended ended = run(3, "stopped");
  EXPECT_EQ(ended.exit_code, 75);
  EXPECT_LT(ended.seconds, 30);
  EXPECT_THAT(ended.lines, ElementsAre(MatchesRegex(
                               "victim: rank 2 on host .* has been silent for 3 s, last seen "
                               "in step [0-9]+.*: the job ends")));
}

TEST(Watchdog, RankZeroIsWatchedToo) {
  const Ended ended = run(4, "first_rank_stopped");
  EXPECT_EQ(ended.exit_code, 75);
  EXPECT_LT(ended.seconds, 30);
  EXPECT_THAT(ended.lines,
              ElementsAre(MatchesRegex("victim: rank 0 on host .* has been silent for 3 s: .*")));
}

TEST(Watchdog, AJobThatIsSuspendedAsAWholeGoesOnAfterwards) {
  const Ended ended = run(3, "suspended");  // for longer than a silent rank is given
  EXPECT_EQ(ended.exit_code, 0);
  EXPECT_GT(ended.seconds, 6);
  EXPECT_THAT(ended.lines, IsEmpty());
}

TEST(Watchdog, ARankThatHangsIsToldFromThoseThatWaitForIt) {
  const Ended ended = run(3, "hangs");
  EXPECT_EQ(ended.exit_code, 75);
  EXPECT_LT(ended.seconds, 30);
  EXPECT_THAT(ended.lines,
              ElementsAre(MatchesRegex("victim: rank 2 on host .* hangs in step 50: .*")));
}

TEST(Watchdog, AKilledRankZeroIsNamedByItsNeighbour) {
  const Ended ended = run(3, "first_rank_killed");
  EXPECT_LT(ended.seconds, 15);
  EXPECT_THAT(
      ended.lines,
      ElementsAre(MatchesRegex("victim: rank 0 on host .* died in step 50, .*: the job ends")));
}

TEST(Watchdog, ACrashHasOneLineWithRankHostAndStep) {
  for (const auto& [name, signal] : {std::pair("crashes", "SIGSEGV"),
                                     {"runs_over_the_stack", "SIGSEGV"},
                                     {"thread_throws", "SIGABRT"}}) {
    const Ended ended = run(3, name);
    EXPECT_NE(ended.exit_code, 0);
    EXPECT_LT(ended.seconds, 15);
    EXPECT_THAT(ended.lines,
                ElementsAre(MatchesRegex(std::string("victim: rank 2 on host .* died of ") +
                                         signal + " in step 50")));
  }
}

TEST(RunMain, ARankWithoutMemoryIsNamed) {
  const Ended ended = run(3, "out_of_memory");
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_THAT(ended.lines,
              ElementsAre(MatchesRegex("victim: rank 2 on host .* in step 50: out of memory: .*")));
}

TEST(Stop, ASignalOnOneRankReachesAllAndTheyLeaveInGoodOrder) {
  for (const int ranks : {1, 3}) {
    const Ended ended = run(ranks, "asked_to_stop");
    EXPECT_EQ(ended.exit_code, 75);
    EXPECT_LT(ended.seconds, 10);
    EXPECT_THAT(ended.lines, IsEmpty());
  }
}

TEST(Stop, RanksThatWaitForOneThatStopsInAPhaseStopToo) {
  const Ended ended = run(3, "asked_to_stop_in_a_phase");
  EXPECT_EQ(ended.exit_code, 75);
  EXPECT_LT(ended.seconds, 10);
  EXPECT_THAT(ended.lines, IsEmpty());
}

TEST(Stop, AJobThatDoesNotStopInTimeIsEnded) {
  const Ended ended = run(3, "asked_to_stop_but_hangs");
  EXPECT_EQ(ended.exit_code, 75);
  EXPECT_LT(ended.seconds, 30);
  EXPECT_THAT(ended.lines, ElementsAre(MatchesRegex(
                               "victim: stopped by SIGTERM on rank 2, but after 11 s rank 1 on "
                               "host .* is still outside the steps: the job ends")));
}

TEST(Stop, ASecondInterruptEndsTheJobAtOnce) {
  const Ended ended = run(3, "interrupted_twice");
  EXPECT_EQ(ended.exit_code, 75);
  EXPECT_LT(ended.seconds, 10);
  EXPECT_THAT(ended.lines, ElementsAre("victim: stopped at once by a second SIGINT on rank 2"));
}

TEST(Stop, AProgramThatDoesNotLookIsEndedAtOnce) {
  const Ended ended = run(3, "signal_not_expected");
  EXPECT_EQ(ended.exit_code, 75);
  EXPECT_LT(ended.seconds, 10);
  EXPECT_THAT(ended.lines, ElementsAre("victim: stopped by SIGTERM on rank 2"));
}

}  // namespace
