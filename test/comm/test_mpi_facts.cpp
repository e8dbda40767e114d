// What Open MPI's open components say of its way between hosts.
#include <gtest/gtest.h>

#include <cstdlib>

#include "comm/mpi_facts.hpp"

namespace millrace {
namespace {

TEST(WayBetweenHosts, IsThatOfTheComponentThatMovesMessages) {
  EXPECT_EQ(way_between_hosts({"pml_base", "pml_ob1", "btl_base", "btl_self", "btl_tcp",
                               "btl_vader", "mtl_base", "mtl_ofi"}),
            "tcp");
  EXPECT_EQ(way_between_hosts({"pml_base", "pml_ucx", "btl_tcp", "mtl_base"}), "ucx");
  EXPECT_EQ(way_between_hosts({"pml_cm", "mtl_base", "mtl_ofi", "btl_tcp"}), "ofi");
  EXPECT_EQ(way_between_hosts({"pml_ob1", "btl_openib", "btl_tcp", "btl_vader"}), "openib");
  EXPECT_EQ(way_between_hosts({"pml_ob1", "btl_tcp", "btl_usnic"}), "usnic");
  EXPECT_EQ(way_between_hosts({"pml_ob1", "btl_self", "btl_vader"}), "");
  EXPECT_EQ(way_between_hosts({}), "");
}

TEST(LostHostSeconds, AreThoseOfMpirunsKeepalives) {
  unsetenv("OMPI_MCA_orte_hnp_uri");
  EXPECT_EQ(lost_host_seconds(), 0);
  setenv("OMPI_MCA_orte_hnp_uri", "1.0;tcp://10.0.0.1:1", 1);
  EXPECT_EQ(lost_host_seconds(), 480);  // Open MPI's own
  setenv("OMPI_MCA_oob_tcp_keepalive_time", "5", 1);
  setenv("OMPI_MCA_oob_tcp_keepalive_intvl", "5", 1);
  setenv("OMPI_MCA_oob_tcp_keepalive_probes", "2", 1);
  EXPECT_EQ(lost_host_seconds(), 15);
  setenv("OMPI_MCA_oob_tcp_keepalive_time", "0", 1);  // none are sent
  EXPECT_GT(lost_host_seconds(), 1'000'000);
}

TEST(MpiLibrary, NamesItselfShortly) {
  EXPECT_FALSE(mpi_library().empty());
  EXPECT_EQ(mpi_library().find(','), std::string::npos);
}

}  // namespace
}  // namespace millrace
