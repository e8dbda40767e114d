// A communicator that pretends to be one rank of many, with nobody behind it: for planning, and for
// tests at sizes that no machine here has. Collectives cost nothing and leave tensors as they are
// (a gather fills every rank's part with this rank's data), sends vanish, and integers are reduced
// as if every rank had given the same value (a sum is size x value).
#pragma once

#include <functional>

#include "comm/comm.hpp"

namespace millrace {

// What the pretended rank would have sent and received: a collective counts as a message each way,
// a gather as one from every other rank where its result is.
struct DryRunTraffic {
  std::int64_t messages = 0;
  std::int64_t bytes = 0;
  std::int64_t communicators = 0;  // made
};

struct DryRun {
  int rank = 0;
  int size = 1;
  int ranks_per_host = 1;            // hosts are filled in rank order
  DryRunTraffic* traffic = nullptr;  // counted, of all communicators; outlives them
  // Byte messages to other ranks, and what receiving one gives. Peers are world ranks.
  std::function<void(int peer, int tag, const Bytes& bytes)> on_send = {};
  std::function<Bytes(int peer, int tag)> on_receive = {};
};

// The world of a dry run. Its sub-communicators come from subgroup(), duplicate() and
// split_by_host(), which the pretended layout decides; split() throws std::logic_error, since it
// depends on what the other ranks say, and so does receiving bytes without `on_receive`.
Comm dry_run_world(const DryRun& layout);

}  // namespace millrace
