// Device memory that all ranks of one host have mapped (CUDA IPC over NVLink or PCIe), so that a
// kernel on one GPU reads and writes on another without the help of a library or of the host.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "comm/comm.hpp"
#include "comm/peers.hpp"

namespace millrace::cuda {

class PeerMemory {
 public:
  // `bytes` of zeroed memory on each rank of `comm`. Collective. When a rank cannot map another's,
  // all ranks get nullptr, and `obstacle` says why.
  static std::unique_ptr<PeerMemory> map(const Comm& comm, Device device, std::size_t bytes,
                                         std::string& obstacle);
  // Collective, after all work on the memory; while the stack unwinds it stops waiting kernels and
  // leaves the memory to the process's end.
  ~PeerMemory();
  PeerMemory(const PeerMemory&) = delete;
  PeerMemory& operator=(const PeerMemory&) = delete;

  // For a kernel about to be launched. Throws std::runtime_error when one before it gave up on a
  // rank.
  const Peers& peers() const;

  // Ends kernels that wait for other ranks, and with them this process's use of the device.
  void stop() const { peers_.alarm->stop = 1; }

 private:
  PeerMemory(const Comm& comm, Device device);
  std::string allocate(std::size_t bytes);
  std::string open(const std::vector<Bytes>& handles);

  Comm comm_;
  Device device_;
  Peers peers_;
  int exceptions_at_start_;
};

}  // namespace millrace::cuda
