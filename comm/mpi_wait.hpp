// Waiting for MPI without burning a core. Only comm's .cpp files include this.
#pragma once

#include <mpi.h>

#include <chrono>

#include "comm/backoff.hpp"
#include "comm/mpi_check.hpp"

namespace millrace {

// Looks at the request, ever less often.
inline void wait_for(MPI_Request& request, std::chrono::microseconds longest_sleep) {
  Backoff backoff(longest_sleep);
  int done = 0;
  while (true) {
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done != 0) return;
    backoff.pause();
  }
}

// Starts a nonblocking call, start(MPI_Request*), and waits for its end.
template <typename Start>
void run_to_end(const char* call, Start&& start) {
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(start(&request), call);
  wait_for(request, std::chrono::milliseconds(1));
}

}  // namespace millrace
