// The memory that ranks of one host have mapped, as a kernel sees it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::cuda {

inline constexpr int max_peers = 8;

// What a kernel that waits for other GPUs looks at, in pinned host memory. A rank that is gone must
// not keep a kernel for ever: it traps when the host says stop, or after a time in which the
// watchdog would have ended the job.
struct PeerAlarm {
  volatile std::uint32_t stop = 0;         // set by the host
  volatile std::uint32_t silent_rank = 0;  // set by a kernel that gave up: 1 + the rank
};

struct Peers {
  std::byte* bases[max_peers] = {};  // by rank: its memory, mapped here
  PeerAlarm* alarm = nullptr;
  int rank = 0;
  int size = 0;
};

}  // namespace millrace::cuda
