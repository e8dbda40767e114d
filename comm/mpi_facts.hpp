// Which MPI library this is, and what it moves messages with.
#pragma once

#include <cstdint>
#include <set>
#include <string>

namespace millrace {

// "Open MPI 4.1.4": the library's own words up to the first comma, at most 80 characters.
std::string mpi_library();

// What carries messages between hosts: "ucx", "ofi", "openib", "tcp", ...; empty when the library
// does not tell. Asks MPI's tool interface, where Open MPI shows the variables of exactly those
// components that it opened.
std::string mpi_way_between_hosts();

// How long Open MPI's mpirun, which started this process, waits for a host that the network has
// lost before it ends the job, by its keepalives on the connections to its daemons, in seconds; 0
// when another launcher did. As the environment says, by which mpirun hands on what it was given;
// what stands in openmpi-mca-params.conf is not known here.
std::int64_t lost_host_seconds();

// The answer for these components: {"pml_ob1", "btl_tcp", "btl_vader"} -> "tcp". A pure function.
std::string way_between_hosts(const std::set<std::string>& components);

}  // namespace millrace
