// What is required of links, and how they are told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/cluster/grid_links.hpp"

namespace millrace {
namespace {

using ::testing::HasSubstr;
using Required = std::vector<RequiredTransport>;

GridLink link(const std::string& communicator, int from, int to, const std::string& way,
              bool across = false) {
  return {communicator, {from, to, across, link_kind(way), way}, "n0", across ? "n1" : "n0"};
}

TEST(RequireTransport, NamesTheFirstLinkThatIsTooSlow) {
  const std::vector<GridLink> links = {link("tensor", 0, 1, "NVLink P2P/CUMEM"),
                                       link("pipeline", 0, 2, "NET/Socket/0", true),
                                       link("pipeline", 1, 3, "NET/Socket/0", true)};
  EXPECT_EQ(too_slow(links, {RequiredTransport::ib}),
            "--require-transport ib: the pipeline group has rank 0 on n0 to rank 2 on n1 by "
            "NET/Socket/0 (2 such links)");
  EXPECT_EQ(too_slow(links, {}), "");
}

TEST(RequireTransport, IbAndGdrdmaLookAtLinksBetweenHostsAlone) {
  const std::vector<GridLink> staged = {link("tensor", 0, 1, "SHM/direct/direct"),
                                        link("pipeline", 0, 2, "NET/IB/0", true)};
  EXPECT_EQ(too_slow(staged, {RequiredTransport::ib}), "");
  EXPECT_THAT(too_slow(staged, {RequiredTransport::gdrdma}), HasSubstr("NET/IB/0"));
  EXPECT_EQ(too_slow({link("pipeline", 0, 2, "NET/IB/0/GDRDMA", true)},
                     {RequiredTransport::ib, RequiredTransport::gdrdma}),
            "");
}

TEST(RequireTransport, P2pAndNvlinkLookAtTensorGroupsAlone) {
  const std::vector<GridLink> links = {link("tensor", 0, 1, "P2P/IPC/read"),
                                       link("pipeline", 0, 2, "SHM/direct/direct")};
  EXPECT_EQ(too_slow(links, {RequiredTransport::p2p}), "");
  EXPECT_THAT(too_slow(links, {RequiredTransport::nvlink}), HasSubstr("P2P/IPC/read"));
  EXPECT_THAT(too_slow({link("tensor", 0, 1, "NET/IB/0/GDRDMA", true)}, {RequiredTransport::p2p}),
              HasSubstr("NET/IB/0/GDRDMA"));
}

TEST(RequireTransport, AnUnknownWayIsNotFastEnough) {
  EXPECT_THAT(too_slow({link("tensor", 0, 1, "")}, {RequiredTransport::p2p}),
              HasSubstr("by an unknown way"));
}

TEST(RequireTransport, MpiOverTcpIsNotIbAndUcxIs) {
  EXPECT_THAT(too_slow({link("pipeline", 0, 1, "MPI tcp", true)}, {RequiredTransport::ib}),
              HasSubstr("MPI tcp"));
  EXPECT_EQ(too_slow({link("pipeline", 0, 1, "MPI ucx", true)}, {RequiredTransport::ib}), "");
}

TEST(LinksLine, SaysEachGroupsWaysOnce) {
  EXPECT_EQ(links_line({}), "");
  EXPECT_EQ(links_line({link("tensor", 0, 1, "NVLink P2P/CUMEM"),
                        link("tensor", 2, 3, "NVLink P2P/CUMEM"),
                        link("pipeline", 0, 2, "NET/IB/0/GDRDMA", true),
                        link("pipeline", 1, 3, "NET/Socket/0", true)}),
            "links: tensor NVLink P2P/CUMEM; pipeline NET/Socket/0 (1 of 2), NET/IB/0/GDRDMA (1 of "
            "2)");
}

}  // namespace
}  // namespace millrace
