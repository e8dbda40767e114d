// The doctor on healthy ranks and on ranks that differ, and jobs that refuse to start where they
// could not work.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <fstream>

#include "test/end_to_end/program.hpp"

namespace millrace::test {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Strings = std::vector<std::string>;
namespace fs = std::filesystem;

Outcome doctor(int ranks, const Strings& arguments) {
  return run({.ranks = ranks, .program = "millrace-doctor", .arguments = arguments});
}

Strings job_arguments(const std::string& model, const Workspace& work) {
  return {"--model=" + model, "--prompts=" + work.write("p.txt", "one\ntwo\n"),
          "--output=" + (work / "o.jsonl"), "--max-tokens=2"};
}

// A copy of the program with another build id, as another link of the same sources would have.
std::string other_build(const Workspace& work, const std::string& program) {
  std::string bytes = read_file(fs::path(MILLRACE_BINARY_DIR) / program);
  const std::size_t note = bytes.find(std::string("\4\0\0\0\24\0\0\0\3\0\0\0GNU\0", 16));
  EXPECT_NE(note, std::string::npos);
  bytes[note + 16] ^= 1;
  const std::string path = work.write(program, bytes);
  fs::permissions(path, fs::perms::owner_all);
  return path;
}

TEST(Doctor, FindsFourRanksOfOneHostHealthy) {
  const Workspace work;
  const Outcome outcome =
      doctor(4, {"--model=" + fixture("llama-tied-bias").string(), "-tp=2", "-pp=2",
                 "--prompts=" + work.write("p.txt", "one\n"), "--output=" + (work / "o.h5")});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output,
              AllOf(HasSubstr("ranks 0-3, cores"), HasSubstr("MPI       Open MPI"),
                    HasSubstr("grid data 1 x pipeline 2 x tensor 2"),
                    ContainsRegex("tensor 0 - 1: shared memory, [0-9.]+ us, [0-9.]+ GB/s"),
                    ContainsRegex("pipeline 1 - 3: shared memory, [0-9.]+ us"),
                    HasSubstr("all-reduce over 2 tensor ranks"), HasSubstr("verdict: healthy")));
  EXPECT_FALSE(fs::exists(work / "o.h5"));
  EXPECT_EQ(std::distance(fs::directory_iterator(work.path()), fs::directory_iterator()), 1)
      << "something is left beside the output";
}

TEST(Doctor, NeedsNoModelAndNoLauncher) {
  EXPECT_THAT(doctor(0, {}).output, HasSubstr("verdict: healthy"));
  const Outcome outcome = doctor(3, {});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, HasSubstr("grid data 1 x pipeline 1 x tensor 3"));
}

TEST(Doctor, AMistakeInAFlagIsOneLineAndExitCodeTwo) {
  for (const auto& [flags, said] :
       {std::pair{Strings{"--no-such"}, "--no-such"}, std::pair{Strings{"-tp=3"}, "tensor 3"},
        std::pair{Strings{"--model=/nonexistent"}, "/nonexistent"},
        std::pair{Strings{"-dp=65536", "-pp=65536"}, "data 65536 x pipeline 65536 takes"},
        std::pair{Strings{"--require-transport=ib,roce"}, "'roce'"},
        std::pair{Strings{"--prompts=/nonexistent/p.txt"}, "/nonexistent/p.txt"},
        std::pair{Strings{"--output=/nonexistent/o.h5"}, "/nonexistent/o.h5"}}) {
    const Outcome outcome = doctor(4, flags);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
    EXPECT_THAT(outcome.errors, HasSubstr("millrace-doctor: ")) << said;
    EXPECT_THAT(outcome.errors, HasSubstr(said));
  }
}

TEST(Doctor, SlowLinksThatAreRequiredToBeFastFail) {
  const Outcome outcome = doctor(2, {"--require-transport=nvlink"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.output,
              AllOf(HasSubstr("FAILURE: --require-transport nvlink"), HasSubstr("by shared memory"),
                    HasSubstr("verdict: not fit for a job, 1 failure")));
}

TEST(Doctor, WarningsFailWithStrictAlone) {
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof(all), &all), 0);
  int core = 0;
  while (!CPU_ISSET(core, &all)) ++core;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(core, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);  // the ranks inherit it
  const Outcome lenient = doctor(3, {});
  const Outcome strict = doctor(3, {"--strict"});
  sched_setaffinity(0, sizeof(all), &all);
  EXPECT_EQ(lenient.exit_code, 0) << lenient.errors;
  EXPECT_EQ(strict.exit_code, 1) << strict.errors;
  for (const Outcome& outcome : {lenient, strict}) {
    EXPECT_THAT(outcome.output, HasSubstr("warning: the 3 ranks of host"));
    EXPECT_THAT(outcome.output, HasSubstr("have 1 core"));
  }
}

TEST(Doctor, ACheckThatDoesNotEndNamesItsRanks) {
  const Outcome outcome = doctor(4, {"--check-timeout=0.001"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(
      outcome.errors,
      ContainsRegex("millrace-doctor: '.*' did not end within 0.001 s on rank [0-3] on host"));
}

TEST(Doctor, NamesTheFileOfAModelThatDiffers) {
  const Workspace here;
  const Workspace there;
  for (const Workspace* work : {&here, &there}) {
    fs::copy(fixture("llama-tied-bias"), *work / "model");
  }
  std::ofstream(fs::path(there / "model") / "tokenizer.json", std::ios::app) << "\n";
  const std::string before = fs::current_path();
  fs::current_path(here.path());
  const Outcome outcome = run({.ranks = 3,
                               .program = "millrace-doctor",
                               .arguments = {"--model=model"},
                               .last_folder = there.path()});
  const Outcome job =
      run({.ranks = 3, .arguments = job_arguments("model", here), .last_folder = there.path()});
  fs::current_path(before);
  EXPECT_EQ(outcome.exit_code, 1) << outcome.errors;
  EXPECT_THAT(outcome.output, HasSubstr("FAILURE: --model is not the same: tokenizer.json: "));
  EXPECT_EQ(job.exit_code, 2) << job.errors;
  EXPECT_THAT(job.complaints(),
              ElementsAre(HasSubstr("--model is not the same: tokenizer.json: ")));
}

TEST(StartCheck, AModelThatIsMissingOnOneHostIsNamed) {
  const Workspace here;
  const Workspace there;
  fs::copy(fixture("llama-tied-bias"), here / "model");
  const std::string before = fs::current_path();
  fs::current_path(here.path());
  const Outcome outcome =
      run({.ranks = 3, .arguments = job_arguments("model", here), .last_folder = there.path()});
  fs::current_path(before);
  EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
  EXPECT_THAT(outcome.complaints(),
              ElementsAre(AllOf(HasSubstr("rank 2 on host"), HasSubstr("model"))));
}

TEST(StartCheck, AnotherBuildOnOneHostIsRefused) {
  const Workspace work;
  const Outcome outcome = run({.ranks = 4,
                               .arguments = job_arguments(fixture("llama-tied-bias"), work),
                               .last_program = other_build(work, "millrace")});
  EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
  EXPECT_THAT(outcome.complaints(), ElementsAre(HasSubstr("the programs differ (build ids): ")));
}

TEST(StartCheck, AJobRefusesLinksThatAreSlowerThanRequired) {
  const Workspace work;
  Strings arguments = job_arguments(fixture("llama-tied-bias"), work);
  arguments.insert(arguments.end(), {"-tp=2", "--require-transport=p2p"});
  const Outcome refused = run({.ranks = 2, .arguments = arguments});
  EXPECT_EQ(refused.exit_code, 2) << refused.errors;
  EXPECT_THAT(refused.complaints(),
              ElementsAre(AllOf(HasSubstr("--require-transport p2p: the tensor group has rank 0"),
                                HasSubstr("by shared memory"))));
  arguments.back() = "--require-transport=ib";  // there is no link between hosts
  const Outcome outcome = run({.ranks = 2, .arguments = arguments});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.errors, HasSubstr("links: tensor shared memory"));
  EXPECT_THAT(outcome.complaints(), IsEmpty());
}

}  // namespace
}  // namespace millrace::test
