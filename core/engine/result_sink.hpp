// Where a replica's leader puts finished requests: the engine's side of the spool writer.
#pragma once

#include "core/batch/request.hpp"

namespace millrace {

class ResultSink {
 public:
  virtual ~ResultSink() = default;

  // Called from the engine's thread, in the order in which requests finish. Should only enqueue:
  // the next step waits for it. May throw what went wrong while writing earlier ones.
  virtual void put(FinishedRequest&& finished) = 0;
};

}  // namespace millrace
