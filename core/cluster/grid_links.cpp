#include "core/cluster/grid_links.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "comm/hosts.hpp"

namespace millrace {
namespace {

// A group of the grid with the world ranks of its members.
struct Group {
  const char* name;
  const Comm& comm;
  std::vector<int> world_ranks;

  int world_rank(int rank) const { return world_ranks[static_cast<std::size_t>(rank)]; }
};

std::array<Group, 2> groups_of(const Grid& grid) {
  const GridCoordinates at = grid.coordinates();
  return {Group{"tensor", grid.tensor(), tensor_ranks(at, grid.shape())},
          Group{"pipeline", grid.pipeline(), pipeline_ranks(at, grid.shape())}};
}

bool is_fast_enough(const GridLink& link, RequiredTransport required) {
  const LinkKind kind = link.path.kind;
  switch (required) {
    case RequiredTransport::ib:
      return !link.path.across_hosts || kind >= LinkKind::network;
    case RequiredTransport::gdrdma:
      return !link.path.across_hosts || kind >= LinkKind::gdrdma;
    case RequiredTransport::p2p:
      return link.communicator != "tensor" || kind >= LinkKind::pcie;
    case RequiredTransport::nvlink:
      return link.communicator != "tensor" || kind >= LinkKind::nvlink;
  }
  return false;
}

std::string_view name(RequiredTransport required) {
  constexpr std::string_view names[] = {"ib", "gdrdma", "p2p", "nvlink"};
  return names[static_cast<std::size_t>(required)];
}

}  // namespace

std::vector<GridLink> grid_links(const Grid& grid, Device device) {
  nlohmann::json mine = nlohmann::json::array();
  for (const Group& group : groups_of(grid)) {
    const std::vector<LinkPath> paths = link_paths(group.comm, device);
    if (group.comm.rank() != 0) continue;  // each group once: by its first rank
    for (const LinkPath& path : paths) {
      mine.push_back({group.name, group.world_rank(path.from), group.world_rank(path.to),
                      path.across_hosts, path.way});
    }
  }
  const std::vector<std::uint8_t> wire = nlohmann::json::to_cbor(mine);
  const auto hosts = grid.world().gather_bytes(as_bytes(host_name()), 0);
  std::vector<GridLink> links;
  for (const Bytes& bytes : grid.world().gather_bytes(std::as_bytes(std::span(wire)), 0)) {
    for (const auto& row : nlohmann::json::from_cbor(as_text(bytes))) {
      GridLink& link = links.emplace_back();
      link.communicator = row[0];
      link.path = {row[1], row[2], row[3], LinkKind::unknown, row[4]};
      link.path.kind = link_kind(link.path.way);
      link.from_host = as_text(hosts[static_cast<std::size_t>(link.path.from)]);
      link.to_host = as_text(hosts[static_cast<std::size_t>(link.path.to)]);
    }
  }
  return links;
}

std::string describe(const GridLink& link) {
  return fmt::format("rank {} on {} to rank {} on {} by {}", link.path.from, link.from_host,
                     link.path.to, link.to_host,
                     link.path.way.empty() ? "an unknown way" : link.path.way);
}

std::string too_slow(const std::vector<GridLink>& links,
                     const std::vector<RequiredTransport>& required) {
  for (const RequiredTransport requirement : required) {
    std::size_t slow = 0;
    const GridLink* first = nullptr;
    for (const GridLink& link : links) {
      if (is_fast_enough(link, requirement)) continue;
      if (slow++ == 0) first = &link;
    }
    if (slow == 0) continue;
    return fmt::format("--require-transport {}: the {} group has {}{}{}", name(requirement),
                       first->communicator, describe(*first),
                       slow > 1 ? fmt::format(" ({} such links)", slow) : "",
                       first->path.way.empty() ? "; NCCL_DEBUG needs NCCL_DEBUG_FILE" : "");
  }
  return "";
}

std::string links_line(const std::vector<GridLink>& links) {
  std::string text;
  for (const std::string_view communicator : {"tensor", "pipeline"}) {
    std::map<std::pair<LinkKind, std::string>, int> ways;
    int all = 0;
    for (const GridLink& link : links) {
      if (link.communicator != communicator) continue;
      ++ways[{link.path.kind, link.path.way.empty() ? "an unknown way" : link.path.way}];
      ++all;
    }
    if (all == 0) continue;
    text += fmt::format("{}{}", text.empty() ? "links: " : "; ", communicator);
    const char* separator = " ";
    for (const auto& [way, count] : ways) {
      text += separator + way.second;
      if (count < all) text += fmt::format(" ({} of {})", count, all);
      separator = ", ";
    }
  }
  return text;
}

bool is_slow_for_gpus(const LinkPath& path) {
  return !path.across_hosts && (path.way.starts_with("SHM/") || path.way.starts_with("NET/"));
}

std::string slow_link_warning(const std::vector<GridLink>& links) {
  for (const GridLink& link : links) {
    if (link.communicator != "tensor" || !link.path.across_hosts) continue;
    if (link.path.kind >= LinkKind::pcie) continue;  // NVLink reaches over hosts in some racks
    return fmt::format(
        "tensor ranks sit on several hosts, {}: every layer waits for the network; "
        "--pipeline-parallel-size across hosts is faster",
        describe(link));
  }
  for (const GridLink& link : links) {
    if (link.communicator != "tensor" || !is_slow_for_gpus(link.path)) continue;
    return fmt::format(
        "tensor ranks of one host talk through its memory, {}: GPUs that cannot reach each other "
        "are faster "
        "as pipeline stages",
        describe(link));
  }
  return "";
}

std::vector<LinkRow> measure_grid_links(const Grid& grid, Device device,
                                        const std::vector<GridLink>& links) {
  std::vector<LinkRow> rows;
  for (const Group& group : groups_of(grid)) {
    std::vector<Link> measured = measure_links(group.comm, device);
    if (group.comm.rank() != 0) measured.clear();
    for (Link& link : measured) {
      link.from = group.world_rank(link.from);
      link.to = group.world_rank(link.to);
    }
    for (const Bytes& bytes : grid.world().gather_bytes(std::as_bytes(std::span(measured)), 0)) {
      std::vector<Link> theirs(bytes.size() / sizeof(Link));
      std::memcpy(theirs.data(), bytes.data(), theirs.size() * sizeof(Link));
      for (const Link& link : theirs) {
        const auto known = std::ranges::find_if(links, [&](const GridLink& other) {
          return other.communicator == group.name && other.path.from == link.from &&
                 other.path.to == link.to;
        });
        rows.push_back({group.name, link.from, link.to, known == links.end() ? "" : known->path.way,
                        link.latency_microseconds, link.gigabytes_per_second});
      }
    }
  }
  return rows;
}

}  // namespace millrace
