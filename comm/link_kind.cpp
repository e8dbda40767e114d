#include "comm/link_kind.hpp"

namespace millrace {

LinkKind link_kind(std::string_view way) {
  const auto names = [way](std::string_view part) {
    return way.find(part) != std::string_view::npos;
  };
  if (way.starts_with("NVLink") || names("P2P/MNNVL")) return LinkKind::nvlink;
  if (way.starts_with("P2P/")) return LinkKind::pcie;
  if (way.starts_with("SHM/") || way == "shared memory") return LinkKind::shared;
  if (way.starts_with("NET/Socket")) return LinkKind::socket;
  if (way.starts_with("NET/")) return names("/GDRDMA") ? LinkKind::gdrdma : LinkKind::network;
  if (way.starts_with("MPI ")) {
    for (const std::string_view fast : {"ucx", "openib", "ofi", "psm", "psm2", "portals4"}) {
      if (way.substr(4) == fast) return LinkKind::network;
    }
    if (way == "MPI tcp") return LinkKind::socket;
    if (way == "MPI vader" || way == "MPI sm") return LinkKind::shared;
  }
  return LinkKind::unknown;
}

std::string_view describe(LinkKind kind) {
  switch (kind) {
    case LinkKind::unknown:
      return "a way of unknown speed";
    case LinkKind::socket:
      return "TCP sockets";
    case LinkKind::network:
      return "a fast network through host memory";
    case LinkKind::gdrdma:
      return "a fast network from GPU to GPU";
    case LinkKind::shared:
      return "host memory";
    case LinkKind::pcie:
      return "PCIe from GPU to GPU";
    case LinkKind::nvlink:
      return "NVLink";
  }
  return "";
}

}  // namespace millrace
