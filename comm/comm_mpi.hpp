// The MPI transport.
#pragma once

#include "comm/comm.hpp"

namespace millrace {

// All ranks that were started together, on a duplicate of MPI_COMM_WORLD. MPI must be initialized.
// Communicators whose ranks are all on one host move tensors through memory that they share
// (shared_exchange.hpp), unless it may not be. Collective.
Comm mpi_world(bool may_share_memory = true);

}  // namespace millrace
