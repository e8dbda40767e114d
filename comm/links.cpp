#include "comm/links.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "comm/hosts.hpp"

namespace millrace {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int latency_rounds = 50;
constexpr int bandwidth_rounds = 5;
constexpr std::int64_t large_bytes = 1 << 20;

// Microseconds for one message there, the median of `rounds` round trips with `peer`, one of whom
// is first to send.
double one_way_microseconds(const Comm& comm, int peer, bool first, std::int64_t bytes,
                            int rounds) {
  const Tensor tensor(DType::u8, Device::cpu(), {bytes});
  fill_bytes(tensor->data(), 0, tensor->bytes(), {});
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    const auto start = Clock::now();
    if (first) comm.send(tensor, peer, {});
    comm.recv(tensor, peer, {});
    if (!first) comm.send(tensor, peer, {});
    times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count() / 2);
  }
  std::nth_element(times.begin(), times.begin() + rounds / 2, times.end());
  return times[static_cast<std::size_t>(rounds / 2)];
}

Link measure(const Comm& comm, int peer, bool first) {
  Link link{comm.rank(), peer, 0, 0};
  link.latency_microseconds = one_way_microseconds(comm, peer, first, 8, latency_rounds);
  const double large = one_way_microseconds(comm, peer, first, large_bytes, bandwidth_rounds);
  link.gigabytes_per_second = static_cast<double>(large_bytes) / large / 1000;
  return link;
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

LinkReport measure_links(const Comm& comm) {
  LinkReport report;
  report.transport = comm.transport_name();
  if (comm.size() == 1) return report;
  report.spans_hosts = hosts_of(comm).size() > 1;
  Link mine;
  // Ranks 0-1, 2-3, ... first, then 1-2, 3-4, ...: no rank measures two ways at once.
  for (const int parity : {0, 1}) {
    const bool first = comm.rank() % 2 == parity;
    const int peer = first ? comm.rank() + 1 : comm.rank() - 1;
    if (peer >= 0 && peer < comm.size()) {
      const Link link = measure(comm, peer, first);
      if (first) mine = link;
    }
    comm.barrier();
  }
  std::vector<Bytes> all = comm.all_gather_bytes(std::as_bytes(std::span(&mine, 1)));
  all.pop_back();  // the last rank is nobody's lower neighbour
  for (const Bytes& bytes : all) {
    Link link;
    std::memcpy(&link, bytes.data(), sizeof(link));
    report.links.push_back(link);
  }
  report.worst_gigabytes_per_second = report.links.front().gigabytes_per_second;
  for (const Link& link : report.links) {
    report.worst_latency_microseconds =
        std::max(report.worst_latency_microseconds, link.latency_microseconds);
    report.worst_gigabytes_per_second =
        std::min(report.worst_gigabytes_per_second, link.gigabytes_per_second);
  }
  return report;
}

}  // namespace millrace
