// Every host against every other, as MPI sees them: latency, bandwidth and clocks, measured by one
// rank of each host so that no two measurements share a host's network.
#pragma once

#include <string>
#include <vector>

#include "comm/links.hpp"

namespace millrace {

// What was measured between two hosts, named by their places in `hosts`.
struct HostMesh {
  std::vector<HostRanks> hosts;
  std::vector<Link> links;            // from and to are places in `hosts`; from < to
  std::vector<double> clock_seconds;  // of each host, ahead of host 0
  bool all_pairs = true;              // false: of many hosts, those `distances` apart in the list
  std::vector<int> distances;
};

// More hosts than this are sampled: each is measured against those 1, 2, 4, ... places further.
inline constexpr int most_hosts_in_full = 32;

// Pairs of 0..count-1 in rounds in which nobody appears twice, so that a round's pairs can go at
// the same time. `distances` empty: every pair once. Else pairs that are so many places apart, the
// list being a circle. A pure function.
std::vector<std::vector<std::pair<int, int>>> pair_rounds(int count,
                                                          const std::vector<int>& distances);

// The same on every rank of `comm`. Ends the job, naming both hosts, when a host does not answer
// another within `limit_seconds`. Collective.
HostMesh measure_hosts(const Comm& comm, double limit_seconds);

}  // namespace millrace
