// The kinds of ways between ranks, from slow to fast, by the names that transports give them.
#pragma once

#include <cstdint>
#include <string_view>

namespace millrace {

// Ordered: what stands later is faster. Ways between hosts first, then those within one.
enum class LinkKind : std::uint8_t {
  unknown,
  socket,   // TCP/IP
  network,  // InfiniBand, RoCE or another network of that class, staged in host memory
  gdrdma,   // the same from GPU memory to GPU memory
  shared,   // memory of the host that both ranks map
  pcie,     // GPU to GPU over PCIe
  nvlink,
};

// Of a way as NCCL or MPI names it: "P2P/CUMEM/read", "NVLink P2P/CUMEM", "SHM/direct/direct",
// "NET/IB/0/GDRDMA", "NET/Socket/0", "MPI tcp", "MPI ucx", "shared memory". P2P alone may be PCIe:
// that it goes over NVLink is known from the GPUs (link_paths). `unknown` for any other name.
LinkKind link_kind(std::string_view way);

// "sockets", "InfiniBand without GPUDirect", ...: for messages.
std::string_view describe(LinkKind kind);

}  // namespace millrace
