// Which MPI library this is, and what it moves messages with.
#pragma once

#include <set>
#include <string>

namespace millrace {

// "Open MPI 4.1.4": the library's own words up to the first comma, at most 80 characters.
std::string mpi_library();

// What carries messages between hosts: "ucx", "ofi", "openib", "tcp", ...; empty when the library
// does not tell. Asks MPI's tool interface, where Open MPI shows the variables of exactly those
// components that it opened.
std::string mpi_way_between_hosts();

// The answer for these components: {"pml_ob1", "btl_tcp", "btl_vader"} -> "tcp". A pure function.
std::string way_between_hosts(const std::set<std::string>& components);

}  // namespace millrace
