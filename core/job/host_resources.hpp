// What this process may use of its host: memory and cores, as the kernel and its control groups
// allow.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "comm/comm.hpp"

namespace millrace {

// Bytes that can be taken without swapping: MemAvailable, or what the tightest memory control group
// of this process leaves, if that is less. `root` is where /proc and /sys are, for tests.
std::int64_t available_memory_bytes(const std::filesystem::path& root = "/");

// Cores that a process may run on, by number; 0 is this one. Empty when it cannot be known.
std::vector<int> allowed_cores(int process = 0);

// Cores for the compute threads of one rank, of all ranks on its host.
struct CoreShare {
  int threads = 1;         // for this rank
  int ranks_cores = 1;     // that the host's ranks may use, all together
  int launcher_cores = 1;  // that whoever started them may use: more, when it bound them to few
};

// The cores of a host divided by the ranks that may use the same ones. Collective over `node`, the
// ranks of one host.
CoreShare share_cores(const Comm& node);

// Threads per rank when each rank of a host has its list of allowed cores: the rank's own number of
// cores, divided by the ranks whose list meets its own.
int threads_of(const std::vector<std::vector<int>>& cores_of_ranks, int rank);

// When this process was started, in seconds before now; 0 when the kernel does not say.
double seconds_since_start();

}  // namespace millrace
