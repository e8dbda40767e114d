// The machines under the job: which ranks are on which host, and what the ways between them are
// and are worth, for the report's topology, for warnings when a grid was laid over slow links, and
// for millrace-doctor.
#pragma once

#include <string>
#include <vector>

#include "comm/comm.hpp"
#include "comm/link_kind.hpp"

namespace millrace {

// A host and the ranks of a communicator on it, ascending.
struct HostRanks {
  std::string name;
  std::vector<int> ranks;
};

// All hosts under `comm`, in the order of their first ranks; the same on every rank. Hosts are told
// apart by whether ranks share memory, not by their names. Collective.
std::vector<HostRanks> hosts_of(const Comm& comm);

// The way between two ranks of a communicator, as chosen by whatever moves its tensors.
struct LinkPath {
  int from = 0;
  int to = 0;
  bool across_hosts = false;
  LinkKind kind = LinkKind::unknown;
  std::string way;  // in that library's words, "NVLink" before P2P that goes over it
};

// All ways that the transport of `device`'s memory uses in `comm`, ascending; the same on every
// rank. On CPUs the ways between neighbours; on GPUs those that NCCL told of (empty `way`: it did
// not), neighbours always included. Collective.
std::vector<LinkPath> link_paths(const Comm& comm, Device device);

// One way between two ranks of a communicator, as measured.
struct Link {
  int from = 0;
  int to = 0;
  double latency_microseconds = 0;  // of a message of 8 bytes, one way
  double gigabytes_per_second = 0;  // of large messages, one way: 1 MiB on CPUs, 32 MiB on GPUs
};

// The way to `peer`, measured in the memory of the stream's device, by the two ranks alone. One of
// them is `first` to send.
Link measure_link(const Comm& comm, int peer, bool first, Stream stream);

// The ways from rank r to r + 1 for all r; none for one rank. Measures for some milliseconds. The
// same on every rank of `comm`. Collective.
std::vector<Link> measure_links(const Comm& comm, Device device);

// Sums over all ranks of a communicator, as measured.
struct AllReduceTimes {
  double small_microseconds = 0;    // of 8 KiB
  double gigabytes_per_second = 0;  // bus bandwidth of 16 MiB: 2 (n - 1) / n times the bytes / time
};

// Of f32 in the memory of `device`: the median, of the slowest rank. Collective.
AllReduceTimes measure_all_reduce(const Comm& comm, Device device);

}  // namespace millrace
