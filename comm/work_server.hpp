// Rank 0 of the leaders hands out byte ranges of the prompt file, each to the replica that asks
// first: a slow replica simply takes fewer. Two-sided messages on a communicator of its own, served
// by a thread on rank 0 that sleeps while nobody asks.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "comm/comm.hpp"
#include "comm/work_ranges.hpp"

namespace millrace {

class WorkServer;

// One leader's access to the work. Made and destroyed by all leaders; used by one thread of each.
class WorkClient {
 public:
  // Collective over the leaders. `work` is what there is to do (see WorkRanges); rank 0's counts.
  WorkClient(const Comm& leaders, std::vector<ByteRange> work);
  // A client that was not exhausted says that it will take no more, so that rank 0 can end; rank 0
  // waits until all clients have had their last answer, except while the stack unwinds.
  ~WorkClient();
  WorkClient(const WorkClient&) = delete;
  WorkClient& operator=(const WorkClient&) = delete;

  // The next range for this replica; nullopt, and nullopt ever after, when all is handed out.
  // Blocks for one exchange with rank 0.
  std::optional<ByteRange> next();

 private:
  Comm comm_;
  std::unique_ptr<WorkServer> server_;  // on rank 0
  bool exhausted_ = false;
};

}  // namespace millrace
