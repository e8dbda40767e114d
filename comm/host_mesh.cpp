#include "comm/host_mesh.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

#include "comm/hosts.hpp"
#include "comm/time_limit.hpp"

namespace millrace {
namespace {

constexpr int clock_tag = 30'001;
constexpr int clock_rounds = 20;

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Bytes as_message(double value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  return {bytes.begin(), bytes.end()};
}

double as_number(const Bytes& message) {
  double value = 0;
  std::memcpy(&value, message.data(), std::min(message.size(), sizeof(value)));
  return value;
}

// How far the clock of `peer` is ahead: of the exchange that took least, half the way there.
double clock_ahead(const Comm& comm, int peer) {
  double shortest = std::numeric_limits<double>::infinity();
  double ahead = 0;
  for (int round = 0; round < clock_rounds; ++round) {
    const double begin = now_seconds();
    comm.send_bytes({}, peer, clock_tag);
    const double there = as_number(comm.receive_bytes(peer, clock_tag));
    const double end = now_seconds();
    if (end - begin < shortest) {
      shortest = end - begin;
      ahead = there - (begin + end) / 2;
    }
  }
  return ahead;
}

void tell_clock(const Comm& comm, int peer) {
  for (int round = 0; round < clock_rounds; ++round) {
    comm.receive_bytes(peer, clock_tag);
    comm.send_bytes(as_message(now_seconds()), peer, clock_tag);
  }
}

// Between the first ranks of the hosts, whose numbers in `comm` are those of the hosts.
struct Measured {
  std::vector<Link> links;
  std::vector<double> clocks;
};

Measured measure_among(const Comm& comm, const std::vector<HostRanks>& hosts,
                       const std::vector<int>& distances, double limit_seconds) {
  const int me = comm.rank();
  const auto limited = [&](int peer) {
    return TimeLimit(
        limit_seconds,
        fmt::format("host {} has no answer from host {} after {} s: MPI cannot reach it",
                    hosts[static_cast<std::size_t>(me)].name,
                    hosts[static_cast<std::size_t>(peer)].name, limit_seconds));
  };
  std::vector<Link> mine;
  for (const auto& round : pair_rounds(comm.size(), distances)) {
    for (const auto& [a, b] : round) {
      if (a != me && b != me) continue;
      const int peer = a == me ? b : a;
      const TimeLimit limit = limited(peer);
      const Link link = measure_link(comm, peer, a == me, {});
      if (a == me) mine.push_back(link);
    }
    comm.barrier();  // so that nobody blames a host that is itself still waiting for another
  }
  double clock = 0;
  for (int host = 1; host < comm.size(); ++host) {
    if (me != 0 && me != host) continue;
    const TimeLimit limit = limited(me == 0 ? host : 0);
    if (me != 0) {
      tell_clock(comm, 0);
      clock = as_number(comm.receive_bytes(0, clock_tag));
    } else {
      comm.send_bytes(as_message(clock_ahead(comm, host)), host, clock_tag);
    }
  }
  Measured measured;
  for (const Bytes& bytes : comm.all_gather_bytes(std::as_bytes(std::span(mine)))) {
    const std::size_t known = measured.links.size();
    measured.links.resize(known + bytes.size() / sizeof(Link));
    std::memcpy(measured.links.data() + known, bytes.data(), bytes.size());
  }
  for (const Bytes& bytes : comm.all_gather_bytes(as_message(clock))) {
    measured.clocks.push_back(as_number(bytes));
  }
  return measured;
}

template <typename T>
void share(const Comm& comm, std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  Bytes message(bytes.begin(), bytes.end());
  comm.broadcast_bytes(message, 0);
  values.resize(message.size() / sizeof(T));
  std::memcpy(values.data(), message.data(), message.size());
}

}  // namespace

std::vector<std::vector<std::pair<int, int>>> pair_rounds(int count,
                                                          const std::vector<int>& distances) {
  std::vector<std::vector<std::pair<int, int>>> rounds;
  if (distances.empty()) {
    // A tournament: one player stays, the others go round; with an odd number one rests.
    const int players = count + count % 2;
    for (int round = 0; round + 1 < players; ++round) {
      auto& pairs = rounds.emplace_back();
      for (int i = 0; i < players / 2; ++i) {
        const int a = i == 0 ? players - 1 : (round + i) % (players - 1);
        const int b = (round + players - 1 - i) % (players - 1);
        if (std::max(a, b) < count) pairs.emplace_back(std::min(a, b), std::max(a, b));
      }
    }
    return rounds;
  }
  for (const int distance : distances) {
    // Every pair goes into the first of this distance's rounds where both are free: three at most.
    const std::size_t first = rounds.size();
    std::vector<std::vector<bool>> busy;
    for (int a = 0; a < count; ++a) {
      const int b = (a + distance) % count;
      if (b == a || (2 * distance == count && b < a)) continue;
      std::size_t round = 0;
      const auto taken = [&](int host) { return busy[round][static_cast<std::size_t>(host)]; };
      while (round < busy.size() && (taken(a) || taken(b))) ++round;
      if (round == busy.size()) {
        busy.emplace_back(static_cast<std::size_t>(count));
        rounds.emplace_back();
      }
      busy[round][static_cast<std::size_t>(a)] = true;
      busy[round][static_cast<std::size_t>(b)] = true;
      rounds[first + round].emplace_back(std::min(a, b), std::max(a, b));
    }
  }
  return rounds;
}

HostMesh measure_hosts(const Comm& comm, double limit_seconds) {
  HostMesh mesh;
  mesh.hosts = hosts_of(comm);
  const int count = static_cast<int>(mesh.hosts.size());
  mesh.all_pairs = count <= most_hosts_in_full;
  for (int distance = 1; !mesh.all_pairs && distance <= count / 2; distance *= 2) {
    mesh.distances.push_back(distance);
  }
  mesh.clock_seconds.assign(static_cast<std::size_t>(count), 0);
  std::vector<int> firsts;
  for (const HostRanks& host : mesh.hosts) firsts.push_back(host.ranks.front());
  if (count > 1 && std::ranges::find(firsts, comm.rank()) != firsts.end()) {
    const Measured measured =
        measure_among(comm.subgroup(firsts), mesh.hosts, mesh.distances, limit_seconds);
    mesh.links = measured.links;
    mesh.clock_seconds = measured.clocks;
  }
  share(comm, mesh.links);
  share(comm, mesh.clock_seconds);
  return mesh;
}

}  // namespace millrace
