// The MPI transport.
#pragma once

#include "comm/comm.hpp"

namespace millrace {

// All ranks that were started together, on a duplicate of MPI_COMM_WORLD. MPI must be initialized.
// Collective.
Comm mpi_world();

}  // namespace millrace
