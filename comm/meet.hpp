// The first words between the ranks. Everything after is collective and would wait for ever for a
// host that MPI cannot reach, so this is not: each rank says hello to rank 0, and then to the ranks
// 1, 2, 4, ... after it, which are those that collectives talk to; with an end to every waiting.
#pragma once

namespace millrace {

struct MeetingLimits {
  double seconds = 30;        // from a rank's own start of waiting
  double chiefs_seconds = 2;  // that rank 0 waits longer, since those it misses know their hosts
};

// Call after MPI_Init, before anything else that needs other ranks. Throws std::runtime_error
// naming this rank, its host and the ranks that it heard nothing of.
void meet(const MeetingLimits& limits = {});

}  // namespace millrace
