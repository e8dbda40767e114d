// A rank that throws makes all ranks throw, by name, and nobody hangs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "comm/agree.hpp"
#include "comm/environment.hpp"
#include "comm/error_message.hpp"
#include "comm/hosts.hpp"

namespace millrace {
namespace {

const Comm& world() {
  static const Environment instance;
  return instance.world();
}

TEST(Agree, ReturnsEachRanksResultWhenNobodyFails) {
  EXPECT_EQ(agree(world(), [] { return world().rank() * 2; }), world().rank() * 2);
  int ran = 0;
  agree(world(), [&] { ++ran; });
  EXPECT_EQ(ran, 1);
}

TEST(Agree, EveryRankThrowsAndNamesTheOneThatFailed) {
  const auto hosts = world().all_gather_bytes(as_bytes(host_name()));
  for (int failing = 0; failing < world().size(); ++failing) {
    try {
      agree(world(), [&] {
        if (world().rank() == failing) throw UserError("cannot read model.safetensors");
      });
      FAIL() << "rank " << world().rank() << " did not throw";
    } catch (const UserError& error) {
      const bool is_mine = dynamic_cast<const PeerError*>(&error) == nullptr;
      EXPECT_EQ(is_mine, world().rank() == failing);
      EXPECT_EQ(error.what(),
                is_mine ? std::string("cannot read model.safetensors")
                        : fmt::format("rank {} on host {}: cannot read model.safetensors", failing,
                                      as_text(hosts[static_cast<std::size_t>(failing)])));
    }
  }
}

TEST(Agree, RanksThatFailTogetherKeepTheirOwnErrors) {
  try {
    agree(world(), [] { throw UserError("rank {} says no", world().rank()); });
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.what(), fmt::format("rank {} says no", world().rank()));
  }
}

TEST(Agree, APathThatMayNotBeLookedAtIsTheUsersOnAllRanks) {
  const std::string name(5000, 'n');  // longer than any file system takes
  const bool fails = world().rank() == world().size() - 1;
  try {
    agree(world(), [&] { return fails && std::filesystem::is_regular_file(name); });
    FAIL();
  } catch (const std::exception& error) {
    EXPECT_EQ(dynamic_cast<const UserError*>(&error) == nullptr, fails);
    EXPECT_THAT(error_message(error), ::testing::HasSubstr(name + ": "));
  }
}

TEST(Agree, WhatGoesAwayByItselfDoesSoOnTheOtherRanksToo) {
  const int failing = world().size() - 1;
  EXPECT_THROW(agree(world(),
                     [&] {
                       if (world().rank() == failing) throw TemporaryError("held by {}", "another");
                     }),
               TemporaryError);
}

TEST(Agree, ABugStaysABugOnTheOtherRanks) {
  const int failing = world().size() - 1;
  try {
    agree(world(), [&]() -> int {
      if (world().rank() == failing) throw std::logic_error("index 7 of 3");
      return 1;
    });
    FAIL();
  } catch (const UserError&) {
    FAIL() << "a bug became the user's mistake";
  } catch (const std::exception& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("index 7 of 3"));
  }
}

TEST(Agree, WhatTheUserCanMendComesBeforeWhatFollowedFromIt) {
  const int culprit = world().size() - 1;
  try {
    agree(world(), [&] {
      if (world().rank() == culprit) throw UserError("out of memory on cuda:{}", culprit);
      throw std::runtime_error("the other side closed the connection");
    });
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(),
                ::testing::HasSubstr(fmt::format("out of memory on cuda:{}", culprit)));
    EXPECT_EQ(dynamic_cast<const PeerError*>(&error) == nullptr, world().rank() == culprit);
  }
}

TEST(Agree, WhoOnlyHeardOfAFailureNamesTheRankThatHadIt) {
  if (world().size() == 1) GTEST_SKIP() << "one rank hears of nobody";
  const int culprit = world().size() - 1;
  try {
    agree(world(), [&] {
      if (world().rank() == culprit) throw std::runtime_error("no network interface");
      throw PeerFailure("another rank gave up");
    });
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("no network interface"));
    EXPECT_EQ(dynamic_cast<const PeerError*>(&error) == nullptr, world().rank() == culprit);
  }
}

TEST(Agree, TheCommunicatorWorksAfterAFailure) {
  EXPECT_ANY_THROW(agree(world(), [] { throw std::runtime_error("once"); }));
  EXPECT_EQ(world().all_reduce_sum(1), world().size());
}

}  // namespace
}  // namespace millrace
