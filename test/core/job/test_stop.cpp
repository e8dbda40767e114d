// When a job begins to stop by itself, and how loading and merging end with it.
#include "core/job/stop.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "core/job/journal.hpp"
#include "core/job/stoppable_checkpoint.hpp"
#include "core/weights/checkpoint.hpp"
#include "test/core/io/samples.hpp"

namespace millrace {
namespace {

using namespace std::chrono_literals;
using Clock = StopRequest::Clock;

const Clock::time_point start = Clock::time_point(1000s);
const Clock::time_point now = start + 60s;
const auto system_now = std::chrono::system_clock::time_point(1'700'000'000s);

std::optional<Clock::time_point> with_slurm(const std::string& end) {
  return stop_time({.time_limit_seconds = {}, .grace_seconds = 30}, start, now,
                   SlurmEnd{end, system_now});
}

TEST(StopTime, LeavesRoomForTheGraceAndTheClosing) {
  const StopConfig config{.time_limit_seconds = 3600, .grace_seconds = 30};
  EXPECT_EQ(stop_time(config, start, now, std::nullopt), start + 3560s);
}

TEST(StopTime, IsSlurmsWithoutATimeLimit) {
  EXPECT_EQ(with_slurm("1700000100"), now + 60s);
  EXPECT_EQ(with_slurm("1699999000"), now - 1040s);  // at once
  EXPECT_EQ(stop_time({}, start, now, std::nullopt), std::nullopt);
}

TEST(StopTime, ATimeLimitWinsOverSlurmAndZeroIsNone) {
  const SlurmEnd slurm{"1700000100", system_now};
  EXPECT_EQ(stop_time({.time_limit_seconds = 100, .grace_seconds = 0}, start, now, slurm),
            start + 90s);
  EXPECT_EQ(stop_time({.time_limit_seconds = 0, .grace_seconds = 0}, start, now, slurm),
            std::nullopt);
}

TEST(StopTime, WhatSlurmDoesNotSayIsNoLimit) {
  for (const char* text : {"", "UNLIMITED", "17e8", "1700000100 ", "4294967295"}) {
    EXPECT_EQ(with_slurm(text), std::nullopt) << text;
  }
}

// The journal of a job that answered everything, at 20 lines of 10 bytes.
class AnsweredJob : public testing::Test {
 protected:
  AnsweredJob() {
    config_.input.prompts = folder_ / "prompts.txt";
    config_.output.output = folder_ / "answers.jsonl";
    std::ofstream(config_.input.prompts) << std::string(200, 'x');
    journal_.folder = spool_folder(config_.output.output);
    journal_.header.prompt_end = 200;
    SpoolWriter writer({.folder = journal_.folder, .header = journal_.header});
    for (std::int64_t offset = 0; offset < 200; offset += 10) writer.put(sample_result(offset));
    writer.close();
  }

  TemporaryFolder folder_;
  RunConfig config_;
  Journal journal_;
  StopRequest stop_;
};

TEST_F(AnsweredJob, IsMergedWithinTheGrace) {
  stop_.make("SIGTERM on rank 0", 1000);
  finish_journal(journal_, config_, {}, stop_);
  EXPECT_TRUE(std::filesystem::exists(config_.output.output));
  EXPECT_TRUE(spool_files(journal_.folder).empty());  // the folder goes with its lock
}

TEST_F(AnsweredJob, KeepsItsJournalWhenTheMergeIsStopped) {
  stop_.make("SIGTERM on rank 0", 0);
  EXPECT_THROW(finish_journal(journal_, config_, {}, stop_), Stopped);
  EXPECT_FALSE(std::filesystem::exists(config_.output.output));
  EXPECT_EQ(spool_files(journal_.folder).size(), 1U);
  finish_journal(journal_, config_, {}, StopRequest());  // as with --resume
  EXPECT_TRUE(std::filesystem::exists(config_.output.output));
}

class Counting : public Checkpoint {
 public:
  std::string describe() const override { return "counting"; }
  const CheckpointTensor* find(std::string_view) const override { return nullptr; }
  void read(const CheckpointTensor&, Range, Range, const TensorView&) override { bytes_read_ += 7; }
};

TEST(StoppableCheckpoint, ReadsUntilTheJobIsAskedToStop) {
  StopRequest stop;
  StoppableCheckpoint checkpoint(std::make_unique<Counting>(), stop);
  checkpoint.read({}, {}, {}, {});
  checkpoint.read({}, {}, {}, {});
  EXPECT_EQ(checkpoint.bytes_read(), 14);
  stop.make("SIGTERM on rank 3", 30);
  try {
    checkpoint.read({}, {}, {}, {});
    ADD_FAILURE() << "it went on";
  } catch (const Stopped& stopped) {
    EXPECT_STREQ(stopped.what(), "SIGTERM on rank 3");
  }
}

TEST(StopRequest, IsOverdueWhenItsGraceIsOver) {
  StopRequest stop;
  EXPECT_FALSE(stop.is_made());
  EXPECT_FALSE(stop.is_overdue());
  stop.throw_if_overdue();
  stop.make("the time limit", 1000);
  EXPECT_TRUE(stop.is_made());
  EXPECT_FALSE(stop.is_overdue());
  StopRequest late;
  late.make("the time limit", 0);
  EXPECT_TRUE(late.is_overdue());
  EXPECT_THROW(late.throw_if_overdue(), Stopped);
}

}  // namespace
}  // namespace millrace
