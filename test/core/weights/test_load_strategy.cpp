#include "core/weights/load_strategy.hpp"

#include <gmock/gmock.h>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using ::testing::StartsWith;

// Several hosts that need the same bytes of a network file system.
LoadQuestion shared_by_hosts() {
  return {.has_sharers = true, .sharing_hosts = 4, .file_system = {"lustre", true}};
}

TEST(LoadStrategy, HostsThatShareANetworkFileSystemBroadcast) {
  const LoadChoice choice = choose_load_strategy(shared_by_hosts());
  EXPECT_EQ(choice.strategy, LoadStrategy::broadcast);
  EXPECT_EQ(choice.explanation,
            "broadcast: ranks on 4 hosts need the same bytes of a lustre file system");
}

TEST(LoadStrategy, EveryOtherCaseReads) {
  LoadQuestion one_host = shared_by_hosts();
  one_host.sharing_hosts = 1;
  LoadQuestion local_disk = shared_by_hosts();
  local_disk.file_system = {"xfs", false};
  LoadQuestion alone = shared_by_hosts();
  alone.has_sharers = false;
  LoadQuestion made_up = shared_by_hosts();
  made_up.is_made_up = true;
  for (const LoadQuestion& question : {one_host, local_disk, alone, made_up}) {
    const LoadChoice choice = choose_load_strategy(question);
    EXPECT_EQ(choice.strategy, LoadStrategy::read);
    EXPECT_THAT(choice.explanation, StartsWith("read: "));
  }
}

TEST(LoadStrategy, WhatIsAskedForIsDone) {
  for (const LoadStrategy asked : {LoadStrategy::read, LoadStrategy::broadcast}) {
    LoadQuestion question = shared_by_hosts();
    question.asked = asked;
    EXPECT_EQ(choose_load_strategy(question).strategy, asked);
    question.sharing_hosts = 1;
    EXPECT_EQ(choose_load_strategy(question).strategy, asked);
  }
}

TEST(LoadStrategy, FileSystemsHaveNames) {
  EXPECT_EQ(file_system_of("/dev/shm").name, "tmpfs");
  EXPECT_FALSE(file_system_of("/dev/shm").is_on_network);
  EXPECT_THROW(file_system_of("/no/such/folder"), UserError);
}

}  // namespace
}  // namespace millrace
