// A file system that has no room, or takes no writes: the job stops with one line, keeps what was
// finished, and goes on once that is mended. Needs to mount a small tmpfs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>

#include "test/end_to_end/interrupted_job.hpp"

namespace millrace::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class FullDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(disk_);
    if (mount("tmpfs", disk_.c_str(), "tmpfs", 0, "size=300k") != 0) {
      GTEST_SKIP() << "cannot mount a tmpfs: " << std::strerror(errno);
    }
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) {
      umount2(disk_.c_str(), MNT_DETACH);
    }
  }
  void remount(unsigned long flags, const char* size) const {
    ASSERT_EQ(mount("tmpfs", disk_.c_str(), "tmpfs", MS_REMOUNT | flags, size), 0)
        << std::strerror(errno);
  }

  SmallJob job_;
  const std::string disk_ = job_ / "disk";
  bool mounted_ = false;
};

void expect_one_line(const Outcome& outcome, const std::string& words) {
  EXPECT_FALSE(outcome.timed_out);
  EXPECT_EQ(outcome.exit_code, 2) << outcome.errors;
  ASSERT_EQ(outcome.complaints().size(), 1U) << outcome.errors;
  EXPECT_THAT(outcome.complaints()[0], HasSubstr(words));
}

TEST_F(FullDisk, TheJobStopsKeepsWhatIsFinishedAndGoesOnWithRoom) {
  const Outcome full = job_.run_to("disk/o.jsonl", {"--data-parallel-size=2"}, 2);
  expect_one_line(full, "No space left on device");
  EXPECT_THAT(full.complaints()[0], HasSubstr("run again with --resume"));
  EXPECT_FALSE(fs::exists(job_ / "disk/o.jsonl"));

  const Outcome again = job_.run_to("disk/o.jsonl", {"--resume"});
  expect_one_line(again, "No space left on device");

  // Room for the journal, but not for the result beside it.
  remount(0, "size=1300k");
  const Outcome no_result = job_.run_to("disk/o.jsonl", {"--resume"});
  expect_one_line(no_result, "No space left on device");
  EXPECT_THAT(no_result.complaints()[0], HasSubstr("the answers are kept in"));
  EXPECT_FALSE(fs::exists(job_ / "disk/o.jsonl"));
  EXPECT_FALSE(fs::exists(job_ / "disk/o.jsonl.partial"));

  remount(MS_RDONLY, "size=32m");
  const Outcome read_only = job_.run_to("disk/o.jsonl", {"--resume"});
  expect_one_line(read_only, "Read-only file system");

  remount(0, "size=32m");
  const Outcome outcome = job_.run_to("disk/o.jsonl", {"--resume"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
  EXPECT_THAT(outcome.errors, HasSubstr("resuming: 3,000 prompts"));
  EXPECT_TRUE(read_file(job_ / "disk/o.jsonl") == job_.undisturbed());
  EXPECT_FALSE(fs::exists(job_.spool("disk/o.jsonl")));
}

TEST_F(FullDisk, AnHdf5ResultThatDoesNotFitIsNotThere) {
  remount(0, "size=1300k");
  const Outcome outcome = job_.run_to("disk/o.h5");
  expect_one_line(outcome, "o.h5.partial");
  EXPECT_FALSE(fs::exists(job_ / "disk/o.h5"));
  EXPECT_FALSE(fs::exists(job_ / "disk/o.h5.partial"));
  remount(0, "size=32m");
  ASSERT_EQ(job_.run_to("disk/o.h5", {"--resume"}).exit_code, 0);
  const Outcome report = run({.program = "millrace-report",
                              .arguments = {job_ / "disk/o.h5", "--to-jsonl", job_ / "h5.jsonl"}});
  ASSERT_EQ(report.exit_code, 0) << report.errors;
  EXPECT_TRUE(read_file(job_ / "h5.jsonl") == job_.undisturbed());
}

}  // namespace
}  // namespace millrace::test
