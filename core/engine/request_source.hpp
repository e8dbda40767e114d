// Where a replica's leader finds its next requests: the engine's side of the prompt reader.
#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

#include "core/batch/request.hpp"

namespace millrace {

// Both functions are called from the engine's thread only; the implementation reads on a thread of
// its own and keeps a bounded queue of parsed requests. Either may throw what went wrong while
// reading.
class RequestSource {
 public:
  virtual ~RequestSource() = default;

  // Appends at most `limit` requests that are ready, in input order. Does not wait. Returns false
  // once the input is exhausted: nothing was appended and nothing ever will be.
  virtual bool take(std::vector<Request>& out, std::size_t limit) = 0;

  // Sleeps until a request is ready or the input is exhausted, and says so; false when neither came
  // in that time. Called only while nothing is running.
  virtual bool wait(std::chrono::milliseconds at_most) = 0;
};

}  // namespace millrace
