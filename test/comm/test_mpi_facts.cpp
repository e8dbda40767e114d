// What Open MPI's open components say of its way between hosts.
#include <gtest/gtest.h>

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

TEST(MpiLibrary, NamesItselfShortly) {
  EXPECT_FALSE(mpi_library().empty());
  EXPECT_EQ(mpi_library().find(','), std::string::npos);
}

}  // namespace
}  // namespace millrace
