// A communicator that pretends to be one rank of many, with nobody behind it: for planning, and for
// tests at sizes that no machine here has. Collectives cost nothing and leave tensors as they are
// (a gather fills every rank's part with this rank's data), sends vanish, and integers are reduced
// as if every rank had given the same value (a sum is size x value).
#pragma once

#include "comm/comm.hpp"

namespace millrace {

struct DryRun {
  int rank = 0;
  int size = 1;
  int ranks_per_host = 1;  // hosts are filled in rank order
};

// The world of a dry run. Its sub-communicators come from subgroup(), duplicate() and
// split_by_host(), which the pretended layout decides; split() throws std::logic_error, since it
// depends on what the other ranks say, and so does receiving bytes.
Comm dry_run_world(const DryRun& layout);

}  // namespace millrace
