// When a job begins to stop by itself, and how weights that are being read end with it.
#include "core/job/stop.hpp"

#include <gtest/gtest.h>

#include "core/job/stoppable_checkpoint.hpp"
#include "core/weights/checkpoint.hpp"

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
