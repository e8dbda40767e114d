// The ways that NCCL tells of, read from lines in the formats of 2.18 to 2.28, and from a log in
// memory as NCCL writes it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "comm/link_kind.hpp"
#include "comm/nccl_log.hpp"

namespace millrace {

static bool operator==(const Route& a, const Route& b) {
  return a.from == b.from && a.to == b.to && a.way == b.way;
}
static void PrintTo(const Route& route, std::ostream* out) {
  *out << route.from << " -> " << route.to << " via " << route.way;
}

namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(NcclLog, ReadsEveryWayInItsOwnWords) {
  EXPECT_THAT(
      routes_in_nccl_log(
          "n0:71:90 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read\n"
          "n0:71:90 [0] NCCL INFO Channel 00/1 : 0[0] -> 2[2] via P2P/direct pointer/read\n"
          "n0:71:90 [0] NCCL INFO Channel 00 : 0[0] -> 3[3] via SHM/direct/direct\n"
          "n0:71:90 [0] NCCL INFO Channel 02/0 : 0[0] -> 4[0] [send] via NET/IB/3/GDRDMA\n"
          "n0:71:90 [0] NCCL INFO Channel 02/0 : 5[1] -> 0[0] [receive] via "
          "NET/IB/3/GDRDMA(PCI)/Shared\n"
          "n0:71:90 [0] NCCL INFO Channel 02/0 : 0[0] -> 6[2] [send] via NET/Socket/0(1)/Shared\n"
          "n0:71:90 [0] NCCL INFO Channel 00/0 : 0[0] -> 7[3] via P2P/MNNVL\n"),
      ElementsAre(Route{0, 1, "P2P/CUMEM/read"}, Route{0, 2, "P2P/direct"},
                  Route{0, 3, "SHM/direct/direct"}, Route{0, 4, "NET/IB/3/GDRDMA"},
                  Route{5, 0, "NET/IB/3/GDRDMA(PCI)/Shared"}, Route{0, 6, "NET/Socket/0(1)/Shared"},
                  Route{0, 7, "P2P/MNNVL"}));
}

TEST(NcclLog, APairOfRanksHasItsSlowestChannel) {
  EXPECT_THAT(routes_in_nccl_log(
                  "h:1:2 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] [send] via NET/IB/0/GDRDMA\n"
                  "h:1:2 [0] NCCL INFO Channel 01/0 : 0[0] -> 1[1] [send] via NET/IB/1\n"
                  "h:1:2 [0] NCCL INFO Channel 02/0 : 0[0] -> 1[1] [send] via NET/IB/0/GDRDMA\n"),
              ElementsAre(Route{0, 1, "NET/IB/1"}));
}

TEST(NcclLog, LooksAtNothingElse) {
  EXPECT_THAT(routes_in_nccl_log(
                  "\n"
                  "n0:71:90 [0] NCCL INFO Bootstrap: Using eth0:10.0.0.1<0>\n"
                  "n0:71:90 [0] NCCL INFO Channel 00/02 : 0 1\n"
                  "n0:71:90 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via \n"
                  "n0:71:90 [0] NCCL INFO Channel 00/0 : x[0] -> 1[1] via P2P/IPC\n"
                  "n0:71:90 [0] NCCL INFO Trees [0] 1/-1/-1->0->-1 [1] 1/-1/-1->0->-1\n"
                  "n0:71:90 [0] NCCL INFO CollNet 00/0 : 1 [send] via COLLNET/SHARP/0/GDRDMA\n"
                  "n0:71:90 [0] NCCL INFO Channel 00/0 : 0[0] -> 99999999999[1] via P2P/IPC\n"
                  "n0:71:90 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/IP"),
              ElementsAre(Route{0, 1, "P2P/IP"}));
  EXPECT_THAT(routes_in_nccl_log(""), IsEmpty());
}

TEST(LinkKind, OrdersTheWays) {
  EXPECT_LT(link_kind("NET/Socket/0"), link_kind("NET/IB/0"));
  EXPECT_LT(link_kind("NET/IB/0(3)"), link_kind("NET/IB/0/GDRDMA"));
  EXPECT_LT(link_kind("SHM/CE/direct"), link_kind("P2P/CUMEM"));
  EXPECT_LT(link_kind("P2P/IPC/read"), link_kind("NVLink P2P/IPC/read"));
  EXPECT_EQ(link_kind("P2P/MNNVL"), LinkKind::nvlink);
  EXPECT_EQ(link_kind("NET/AWS"), LinkKind::network);
  EXPECT_EQ(link_kind("MPI tcp"), LinkKind::socket);
  EXPECT_EQ(link_kind("MPI ucx"), LinkKind::network);
  EXPECT_EQ(link_kind("shared memory"), LinkKind::shared);
  EXPECT_EQ(link_kind("MPI "), LinkKind::unknown);
  EXPECT_EQ(link_kind(""), LinkKind::unknown);
}

// As NCCL does: opens what the variable names, once, and writes whole lines.
TEST(NcclLog, IsInMemoryAndReadFromAnyPlaceOn) {
  unsetenv("NCCL_DEBUG");
  NcclLog& log = NcclLog::instance();
  EXPECT_THAT(log.obstacle(), HasSubstr("not started"));
  log.open();
  EXPECT_EQ(log.obstacle(), "");
  EXPECT_STREQ(getenv("NCCL_DEBUG"), "INFO");
  std::FILE* file = std::fopen(getenv("NCCL_DEBUG_FILE"), "w");
  ASSERT_NE(file, nullptr);
  setlinebuf(file);
  std::fputs("first\n", file);
  const std::size_t begin = log.size();
  EXPECT_EQ(begin, 6U);
  std::fputs("second\n", file);
  EXPECT_EQ(log.since(begin), "second\n");
  EXPECT_EQ(log.since(0), "first\nsecond\n");
  EXPECT_EQ(log.since(1000), "");
  std::fclose(file);
}

}  // namespace
}  // namespace millrace
