#include "comm/links.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <sstream>

#include "comm/gpu_links.hpp"
#include "comm/hosts.hpp"
#include "comm/mpi_facts.hpp"
#include "kernels/base/device_facts.hpp"

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int latency_rounds = 50;
constexpr int bandwidth_rounds = 5;
constexpr int rounds_at_once = 20;
constexpr std::int64_t large_bytes_on_cpu = 1 << 20;
constexpr std::int64_t large_bytes_on_gpu = 32 << 20;
constexpr std::int64_t small_sum_bytes = 8 << 10;
constexpr std::int64_t large_sum_bytes = 16 << 20;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// The median time of `round()`, which is run once before it counts. On a GPU rounds are timed many
// at once, with one synchronization behind them, since that and a launch take longer than the way.
template <typename Round>
double median_microseconds(int rounds, Stream stream, Round&& round) {
  const int at_once = stream.device.is_cpu() ? 1 : rounds_at_once;
  round();
  synchronize(stream);
  std::vector<double> times;
  for (int i = 0; i < rounds; ++i) {
    const auto start = Clock::now();
    for (int k = 0; k < at_once; ++k) round();
    synchronize(stream);
    times.push_back(microseconds_since(start) / at_once);
  }
  const auto middle = times.begin() + rounds / 2;
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

// Microseconds for one message there, half of a round trip with `peer`.
double one_way_microseconds(const Comm& comm, int peer, bool first, std::int64_t bytes, int rounds,
                            Stream stream) {
  const Tensor tensor(DType::u8, stream.device, {bytes});
  fill_bytes(tensor->data(), 0, tensor->bytes(), stream);
  return median_microseconds(rounds, stream,
                             [&] {
                               if (first) comm.send(tensor, peer, stream);
                               comm.recv(tensor, peer, stream);
                               if (!first) comm.send(tensor, peer, stream);
                             }) /
         2;
}

// The host of every rank, by its place in hosts_of().
std::vector<std::size_t> host_of_ranks(const Comm& comm) {
  std::vector<std::size_t> host_of(static_cast<std::size_t>(comm.size()));
  const std::vector<HostRanks> hosts = hosts_of(comm);
  for (std::size_t host = 0; host < hosts.size(); ++host) {
    for (const int rank : hosts[host].ranks) host_of[static_cast<std::size_t>(rank)] = host;
  }
  return host_of;
}

// What this rank knows of the ways of host memory: the one to its upper neighbour.
std::vector<Route> host_routes(const Comm& comm, const std::vector<std::size_t>& host_of) {
  const int next = comm.rank() + 1;
  if (next >= comm.size()) return {};
  const auto host = [&](int rank) { return host_of[static_cast<std::size_t>(rank)]; };
  const bool across = host(comm.rank()) != host(next);
  std::string way(comm.transport_name());
  if (way == "MPI") way.append(" ").append(across ? mpi_way_between_hosts() : "vader");
  return {{comm.rank(), next, way}};
}

// What this rank knows of the ways of device memory, and whether they go over NVLink.
std::vector<Route> device_routes(const Comm& comm, Device device,
                                 const std::vector<std::size_t>& host_of) {
  std::vector<Route> routes = comm.routes();
  if (const int next = comm.rank() + 1; next < comm.size()) {
    const bool known = std::ranges::any_of(
        routes, [&](const Route& r) { return r.from == comm.rank() && r.to == next; });
    if (!known) routes.push_back({comm.rank(), next, ""});
  }
  const std::string pci_id = device_facts(device).pci_id;
  const std::vector<Bytes> pci_ids = comm.all_gather_bytes(as_bytes(pci_id));
  for (Route& route : routes) {
    const auto peer = static_cast<std::size_t>(route.from == comm.rank() ? route.to : route.from);
    if (!route.way.starts_with("P2P/")) continue;
    if (host_of[peer] != host_of[static_cast<std::size_t>(comm.rank())]) continue;
    const std::string link = gpu_link(pci_id, std::string(as_text(pci_ids[peer])));
    if (link.starts_with("NV")) route.way = "NVLink " + route.way;
  }
  return routes;
}

}  // namespace

std::vector<HostRanks> hosts_of(const Comm& comm) {
  const Comm host = comm.split_by_host();
  struct Mine {
    std::int64_t first_rank;  // of the ranks on this host: names it within the communicator
  };
  const Mine mine{host.all_reduce_min(comm.rank())};
  const std::string name = host_name();
  Bytes bytes(sizeof(mine) + name.size());
  std::memcpy(bytes.data(), &mine, sizeof(mine));
  std::memcpy(bytes.data() + sizeof(mine), name.data(), name.size());
  std::vector<HostRanks> hosts;
  int rank = 0;
  for (const Bytes& theirs : comm.all_gather_bytes(bytes)) {
    Mine place{};
    std::memcpy(&place, theirs.data(), sizeof(place));
    auto found = std::find_if(hosts.begin(), hosts.end(), [&](const HostRanks& known) {
      return known.ranks.front() == place.first_rank;
    });
    if (found == hosts.end()) {
      hosts.push_back({std::string(as_text(std::span(theirs).subspan(sizeof(place)))), {}});
      found = hosts.end() - 1;
    }
    found->ranks.push_back(rank++);
  }
  return hosts;
}

std::vector<LinkPath> link_paths(const Comm& comm, Device device) {
  if (comm.size() == 1) return {};
  const std::vector<std::size_t> host_of = host_of_ranks(comm);
  std::string mine;
  for (const Route& route :
       device.is_cpu() ? host_routes(comm, host_of) : device_routes(comm, device, host_of)) {
    mine += std::to_string(route.from) + " " + std::to_string(route.to) + " " + route.way + "\n";
  }
  std::map<std::pair<int, int>, LinkPath> paths;
  for (const Bytes& bytes : comm.all_gather_bytes(as_bytes(mine))) {
    std::istringstream lines{std::string(as_text(bytes))};
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      LinkPath path;
      words >> path.from >> path.to >> std::ws;
      std::getline(words, path.way);
      path.kind = link_kind(path.way);
      path.across_hosts = host_of[static_cast<std::size_t>(path.from)] !=
                          host_of[static_cast<std::size_t>(path.to)];
      // Both ends tell of some ways; one of them may know nothing, or less well.
      LinkPath& known = paths.try_emplace({path.from, path.to}, path).first->second;
      if (known.way.empty() || (!path.way.empty() && path.kind < known.kind)) known = path;
    }
  }
  std::vector<LinkPath> all;
  for (auto& [ends, path] : paths) all.push_back(std::move(path));
  return all;
}

Link measure_link(const Comm& comm, int peer, bool first, Stream stream) {
  const std::int64_t large = stream.device.is_cpu() ? large_bytes_on_cpu : large_bytes_on_gpu;
  Link link{comm.rank(), peer, 0, 0};
  link.latency_microseconds = one_way_microseconds(comm, peer, first, 8, latency_rounds, stream);
  const double large_microseconds =
      one_way_microseconds(comm, peer, first, large, bandwidth_rounds, stream);
  link.gigabytes_per_second = static_cast<double>(large) / large_microseconds / 1000;
  return link;
}

std::vector<Link> measure_links(const Comm& comm, Device device) {
  if (comm.size() == 1) return {};
  const OwnedStream stream(device);
  Link mine;
  // Ranks 0-1, 2-3, ... first, then 1-2, 3-4, ...: no rank measures two ways at once.
  for (const int parity : {0, 1}) {
    const bool first = comm.rank() % 2 == parity;
    const int peer = first ? comm.rank() + 1 : comm.rank() - 1;
    if (peer >= 0 && peer < comm.size()) {
      const Link link = measure_link(comm, peer, first, stream.stream());
      if (first) mine = link;
    }
    comm.barrier();
  }
  std::vector<Bytes> all = comm.all_gather_bytes(std::as_bytes(std::span(&mine, 1)));
  all.pop_back();  // the last rank is nobody's lower neighbour
  std::vector<Link> links;
  for (const Bytes& bytes : all) {
    std::memcpy(&links.emplace_back(), bytes.data(), sizeof(Link));
  }
  return links;
}

AllReduceTimes measure_all_reduce(const Comm& comm, Device device) {
  AllReduceTimes times;
  if (comm.size() == 1) return times;
  const OwnedStream stream(device);
  const auto median = [&](std::int64_t bytes, int rounds) {
    const Tensor tensor(DType::f32, device, {bytes / 4});
    fill_bytes(tensor->data(), 0, tensor->bytes(), stream.stream());
    const double mine = median_microseconds(rounds, stream.stream(),
                                            [&] { comm.all_reduce_sum(tensor, stream.stream()); });
    const auto nanoseconds = static_cast<std::int64_t>(1000 * mine);
    return static_cast<double>(comm.all_reduce_max(nanoseconds)) / 1000;
  };
  times.small_microseconds = median(small_sum_bytes, latency_rounds);
  const double ranks = comm.size();
  const double bus_bytes = 2 * (ranks - 1) / ranks * static_cast<double>(large_sum_bytes);
  times.gigabytes_per_second = bus_bytes / median(large_sum_bytes, bandwidth_rounds) / 1000;
  return times;
}

}  // namespace millrace
