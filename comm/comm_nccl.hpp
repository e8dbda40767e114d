// Device memory between ranks by NCCL, with MPI as the bootstrap: what has to be settled before the
// first communicator is made. The transport itself is reached through Comm::bind (comm/comm.hpp).
#pragma once

#include <memory>

#include "comm/comm.hpp"

namespace millrace::cuda {

struct NcclLimits {
  double arrival_seconds = 60;  // for all ranks to reach the making of a communicator
  double init_seconds = 120;    // for NCCL to connect them
};

// As make_device_transport, with other limits. Collective over `comm`, every rank with a device of
// its own. Throws UserError that names the ranks that did not arrive, or on every rank
// what NCCL said.
std::unique_ptr<TensorTransport> make_nccl_transport(const Comm& comm, Device device,
                                                     const DeviceTraffic& traffic,
                                                     const NcclLimits& limits);

}  // namespace millrace::cuda
