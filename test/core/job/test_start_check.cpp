// What the log of a job's start says of its hosts.
#include <gmock/gmock.h>

#include "core/job/start_check.hpp"

namespace millrace {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<RankFacts> ranks_on(const std::vector<std::string>& hosts, const std::string& gpu) {
  std::vector<RankFacts> ranks(hosts.size());
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    ranks[i].host = hosts[i];
    if (gpu.empty()) continue;
    ranks[i].device = Device::cuda(0);
    ranks[i].gpu.name = gpu;
    ranks[i].gpu_links = "NV18";
  }
  return ranks;
}

TEST(HostLines, SayInOneLineWhatHostsThatAreAlikeHave) {
  EXPECT_THAT(host_lines(ranks_on({"a", "a", "b", "b"}, "H100")),
              ElementsAre("2 hosts of 2 x H100 (NV18) each"));
  EXPECT_THAT(host_lines(ranks_on({"a", "a"}, "H100")), ElementsAre("host a: 2 x H100 (NV18)"));
  EXPECT_THAT(host_lines(ranks_on({"a", "a", "b"}, "")),
              ElementsAre("host a: 2 CPU ranks", "host b: 1 CPU rank"));
}

TEST(HostLines, RanksDealtOutOverHostsInTurnAreOfTheSameHosts) {
  EXPECT_THAT(host_lines(ranks_on({"a", "b", "a", "b"}, "H100")),
              ElementsAre("2 hosts of 2 x H100 (NV18) each"));
}

TEST(HostLines, SayNothingOfCpusOfOneHost) {
  EXPECT_THAT(host_lines(ranks_on({"a", "a"}, "")), IsEmpty());
  EXPECT_THAT(host_lines({}), IsEmpty());
}

}  // namespace
}  // namespace millrace
