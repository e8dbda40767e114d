// The machines under the job: which ranks are on which host, and what the ways between them are
// worth, for the report's topology and for one warning when a grid was laid over slow links.
#pragma once

#include <string>
#include <vector>

#include "comm/comm.hpp"

namespace millrace {

// A host and the ranks of a communicator on it, ascending.
struct HostRanks {
  std::string name;
  std::vector<int> ranks;
};

// All hosts under `comm`, in the order of their first ranks; the same on every rank. Hosts are told
// apart by whether ranks share memory, not by their names. Collective.
std::vector<HostRanks> hosts_of(const Comm& comm);

// One way between neighbouring ranks of a communicator, as measured on host memory.
struct Link {
  int from = 0;
  int to = 0;
  double latency_microseconds = 0;  // of a message of 8 bytes, one way
  double gigabytes_per_second = 0;  // of messages of 1 MiB, one way
};

// What a communicator runs on.
struct LinkReport {
  std::string transport;  // Comm::transport_name()
  bool spans_hosts = false;
  std::vector<Link> links;  // rank r to r + 1; none for one rank
  double worst_latency_microseconds = 0;
  double worst_gigabytes_per_second = 0;
};

// Measures for some milliseconds. The same report on every rank of `comm`. Collective.
LinkReport measure_links(const Comm& comm);

}  // namespace millrace
