#include "core/cluster/findings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "core/plan/human_bytes.hpp"

namespace millrace {
namespace {

constexpr std::int64_t enough_shm_bytes = std::int64_t{1} << 30;
constexpr std::int64_t enough_memlock_bytes = std::int64_t{64} << 30;
constexpr double free_gpu_fraction = 0.9;
constexpr double largest_skew_seconds = 2;
constexpr double outlier_factor = 4;
constexpr std::int64_t longest_wait_seconds = 60;  // for a host that is lost

std::vector<std::string> hosts_where(std::span<const RankFacts> ranks,
                                     const std::function<bool(const RankFacts&)>& is_so) {
  std::vector<std::string> hosts;
  for (const RankFacts& rank : ranks) {
    if (is_so(rank)) hosts.push_back(rank.host);
  }
  return hosts;
}

// The first file of the model that differs, "config.json: 1,204 bytes, checksum 0a on n0; none on
// n1".
std::string model_difference(std::span<const RankFacts> ranks) {
  std::set<std::string> files;
  for (const RankFacts& rank : ranks) {
    for (const auto& [file, fact] : rank.model) files.insert(file);
  }
  for (const std::string& file : files) {
    const std::string found = difference(ranks, [&file](const RankFacts& rank) {
      const auto at = rank.model.find(file);
      return at == rank.model.end() ? std::string("none") : at->second;
    });
    if (!found.empty()) return file + ": " + found;
  }
  return "";
}

void judge_gpus_of_host(const std::string& host, const std::vector<const RankFacts*>& ranks,
                        std::vector<Finding>& findings) {
  std::map<std::string, int> ranks_of_gpu;
  for (const RankFacts* rank : ranks) {
    if (rank->device.is_cpu()) continue;
    ++ranks_of_gpu[rank->gpu.uuid];
    const double free_part =
        static_cast<double>(rank->gpu.free_bytes) / static_cast<double>(rank->gpu.memory_bytes);
    if (free_part < free_gpu_fraction) {
      findings.push_back(
          {Severity::warning,
           fmt::format("{} of host {} has only {} of {} free", to_string(rank->device), host,
                       human_bytes(rank->gpu.free_bytes), human_bytes(rank->gpu.memory_bytes)),
           "nvidia-smi on that host names the processes that hold it"});
    }
  }
  for (const auto& [uuid, count] : ranks_of_gpu) {
    if (count > 1) {
      findings.push_back(
          {Severity::failure, fmt::format("{} ranks of host {} share {}", count, host, uuid),
           "start one rank per GPU: --ntasks-per-node is the number of --gpus-per-node"});
    }
  }
}

void judge_cores_of_host(const std::string& host, const std::vector<const RankFacts*>& ranks,
                         std::vector<Finding>& findings) {
  std::set<int> cores;
  for (const RankFacts* rank : ranks) cores.insert(rank->cores.begin(), rank->cores.end());
  const int usable = static_cast<int>(cores.size());
  if (usable >= static_cast<int>(ranks.size()) || cores.empty()) return;
  findings.push_back(
      {Severity::warning,
       fmt::format("the {} ranks of host {} have {} core{} ({})", ranks.size(), host, usable,
                   usable == 1 ? "" : "s", ranges_text({cores.begin(), cores.end()})),
       ranks.front()->host_cores > usable
           ? "mpirun --bind-to none, or srun --cpus-per-task, gives them more"
           : "start fewer ranks on it"});
}

}  // namespace

std::string capability_text(int capability) {
  return fmt::format("{}.{}", capability / 10, capability % 10);
}

std::string names_text(const std::vector<std::string>& hosts) {
  constexpr std::size_t most = 4;
  std::vector<std::string> names;
  for (const std::string& host : hosts) {
    if (std::ranges::find(names, host) == names.end()) names.push_back(host);
  }
  std::string text;
  const std::size_t shown = names.size() > most ? most - 1 : names.size();
  for (std::size_t i = 0; i < shown; ++i) text += (i == 0 ? "" : ", ") + names[i];
  if (shown < names.size()) text += fmt::format(" and {} others", names.size() - shown);
  return text;
}

std::string difference(std::span<const RankFacts> ranks,
                       const std::function<std::string(const RankFacts&)>& value) {
  std::vector<std::pair<std::string, std::vector<std::string>>> hosts_of_values;
  for (const RankFacts& rank : ranks) {
    const std::string mine = value(rank);
    if (mine.empty()) continue;
    auto found = std::ranges::find_if(hosts_of_values,
                                      [&](const auto& known) { return known.first == mine; });
    if (found == hosts_of_values.end()) {
      found = hosts_of_values.insert(hosts_of_values.end(), {mine, {}});
    }
    found->second.push_back(rank.host);
  }
  if (hosts_of_values.size() < 2) return "";
  std::ranges::stable_sort(hosts_of_values, std::ranges::greater(),
                           [](const auto& entry) { return entry.second.size(); });
  std::string text;
  for (const auto& [shown, hosts] : hosts_of_values) {
    text += fmt::format("{}{} on {}", text.empty() ? "" : "; ", shown, names_text(hosts));
  }
  return text;
}

std::vector<Finding> compare_ranks(std::span<const RankFacts> ranks) {
  std::vector<Finding> findings;
  const auto compare = [&](Severity severity, const char* what, const std::string& found,
                           const char* remedy) {
    if (!found.empty()) findings.push_back({severity, fmt::format("{}: {}", what, found), remedy});
  };
  const auto by = [&](auto&& value) { return difference(ranks, value); };
  compare(Severity::failure, "the millrace versions differ",
          by([](const RankFacts& r) { return r.version; }), "install one version on every host");
  compare(Severity::failure, "the programs differ (build ids)",
          by([](const RankFacts& r) { return r.build.substr(0, 12); }),
          "install the same file on every host, or start it from a shared file system");
  compare(Severity::failure, "--model is not the same", model_difference(ranks),
          "copy the model to every host again, or give a path on a shared file system");
  compare(Severity::failure, "--prompts is not the same file",
          by([](const RankFacts& r) { return r.prompts; }),
          "put it on a file system that all hosts share");
  compare(Severity::failure, "the folder of --output is not the same",
          by([](const RankFacts& r) { return r.output; }),
          "put the output on a file system that all hosts share");
  compare(Severity::failure, "some ranks have a GPU and others have none",
          by([](const RankFacts& r) { return std::string(r.device.is_cuda() ? "a GPU" : "none"); }),
          "start as many ranks on each host as it has GPUs, or give --device cpu");
  compare(Severity::failure, "the GPUs differ",
          by([](const RankFacts& r) { return r.device.is_cuda() ? r.gpu.name : ""; }),
          "start the job on hosts with GPUs of one kind");
  for (const RankFacts& rank : ranks) {
    if (rank.device.is_cpu() || rank.gpu.compute_capability >= least_capability) continue;
    findings.push_back(
        {Severity::failure,
         fmt::format("{} of host {} ({}) has compute capability {}", to_string(rank.device),
                     rank.host, rank.gpu.name, capability_text(rank.gpu.compute_capability)),
         fmt::format("{} is the least that millrace has kernels for",
                     capability_text(least_capability))});
  }
  const char* one_software = "put the same software on every host";
  compare(Severity::warning, "the NVIDIA drivers differ",
          by([](const RankFacts& r) { return r.device.is_cuda() ? r.driver : ""; }), one_software);
  compare(Severity::warning, "the NCCL libraries differ",
          by([](const RankFacts& r) { return r.nccl; }), one_software);
  compare(Severity::warning, "the MPI libraries differ",
          by([](const RankFacts& r) { return r.mpi; }), one_software);
  return findings;
}

std::vector<Finding> judge_hosts(std::span<const RankFacts> ranks) {
  std::vector<Finding> findings;
  for (const auto& [host, on_host] : by_host(ranks)) {
    judge_gpus_of_host(host, on_host, findings);
    judge_cores_of_host(host, on_host, findings);
  }
  const auto add = [&](const std::vector<std::string>& hosts, const std::string& what,
                       const char* remedy) {
    if (!hosts.empty()) {
      findings.push_back(
          {Severity::warning, fmt::format("{} on {}", what, names_text(hosts)), remedy});
    }
  };
  for (const auto& [host, on_host] : by_host(ranks)) {
    const RankFacts& first = *on_host.front();
    if (on_host.size() == 1 || first.shm_free_bytes >= enough_shm_bytes) continue;
    add({host},
        fmt::format("/dev/shm has {} free of {}", human_bytes(first.shm_free_bytes),
                    human_bytes(first.shm_bytes)),
        "ranks of a host share memory there: docker --shm-size, or mount -o remount,size=8G "
        "/dev/shm, and remove what dead jobs left");
  }
  add(hosts_where(ranks,
                  [](const RankFacts& r) {
                    return !r.active_ports.empty() && r.memlock_bytes >= 0 &&
                           r.memlock_bytes < enough_memlock_bytes;
                  }),
      "the limit of locked memory is low for InfiniBand",
      "ulimit -l unlimited for the daemon that starts ranks (Slurm: LimitMEMLOCK=infinity in "
      "slurmd's unit, PropagateResourceLimitsExcept=MEMLOCK)");
  std::map<std::string, std::vector<std::string>> hosts_of_ports;
  for (const RankFacts& rank : ranks) {
    for (const std::string& port : rank.inactive_ports) hosts_of_ports[port].push_back(rank.host);
  }
  for (const auto& [port, hosts] : hosts_of_ports) {
    add(hosts, fmt::format("the network port {} is down", port),
        "ibstat on that host; NCCL_IB_HCA leaves a port out that is not meant to be used");
  }
  const std::string ports = difference(ranks, [](const RankFacts& rank) {
    return fmt::format("{} active ports", rank.active_ports.size());
  });
  if (!ports.empty()) {
    findings.push_back({Severity::warning, "the InfiniBand ports differ: " + ports,
                        "ranks wait for the host with the fewest"});
  }
  if (!ranks.empty() && by_host(ranks).size() > 1 &&
      ranks.front().lost_host_seconds > longest_wait_seconds) {
    findings.push_back(
        {Severity::warning,
         "mpirun waits for up to a quarter of an hour for a host that the network has lost",
         "export OMPI_MCA_oob_tcp_keepalive_time=5 OMPI_MCA_oob_tcp_keepalive_intvl=5 "
         "OMPI_MCA_oob_tcp_keepalive_probes=2 before mpirun"});
  }
  return findings;
}

namespace {

const char* remedy_for_sockets(bool is_device, bool has_network) {
  if (!has_network) {
    return is_device ? "these hosts show no InfiniBand device; NCCL_SOCKET_IFNAME names the "
                       "fastest interface"
                     : "these hosts show no InfiniBand device; OMPI_MCA_btl_tcp_if_include names "
                       "the fastest interface";
  }
  return is_device ? "the hosts have InfiniBand and NCCL does not use it: install libibverbs (in a "
                     "container, pass /dev/infiniband), unset NCCL_IB_DISABLE, check NCCL_IB_HCA "
                     "and NCCL_NET"
                   : "the hosts have InfiniBand and MPI does not use it: an MPI library with UCX, "
                     "OMPI_MCA_pml=ucx";
}

}  // namespace

std::vector<Finding> judge_links(std::span<const RankFacts> ranks,
                                 const std::vector<GridLink>& links) {
  std::vector<Finding> findings;
  if (const std::string warning = slow_link_warning(links); !warning.empty()) {
    findings.push_back(
        {Severity::warning, warning,
         "-tp no larger than the ranks of a host whose GPUs reach each other; -pp for the rest"});
  }
  // One finding for each kind of slow way, by its first link.
  const auto add = [&](const std::function<bool(const GridLink&)>& is_slow, const char* what,
                       const std::function<const char*(const GridLink&)>& remedy) {
    const auto count = std::ranges::count_if(links, is_slow);
    if (count == 0) return;
    const GridLink& first = *std::ranges::find_if(links, is_slow);
    findings.push_back({Severity::warning,
                        fmt::format("{}: {}{}", what, describe(first),
                                    count > 1 ? fmt::format(" and {} more links", count - 1) : ""),
                        remedy(first)});
  };
  const auto facts_of = [&](int rank) -> const RankFacts& {
    return ranks[static_cast<std::size_t>(rank)];
  };
  const auto is_device = [&](const GridLink& link) {
    return facts_of(link.path.from).device.is_cuda();
  };
  add(
      [](const GridLink& link) {
        return link.path.across_hosts && link.path.kind == LinkKind::socket;
      },
      "TCP sockets between hosts",
      [&](const GridLink& link) {
        return remedy_for_sockets(is_device(link),
                                  !facts_of(link.path.from).active_ports.empty() &&
                                      !facts_of(link.path.to).active_ports.empty());
      });
  add(
      [&](const GridLink& link) {
        return link.path.across_hosts && link.path.kind == LinkKind::network && is_device(link);
      },
      "no GPUDirect RDMA between hosts",
      [&](const GridLink& link) {
        return facts_of(link.path.from).has_peer_memory && facts_of(link.path.to).has_peer_memory
                   ? "the module nvidia_peermem is loaded; NCCL_NET_GDR_LEVEL=SYS allows it over "
                     "any PCIe distance, and ACS in the PCIe switches must be off"
                   : "modprobe nvidia_peermem, or the open kernel driver with DMA-BUF";
      });
  add([](const GridLink& link) { return is_slow_for_gpus(link.path); },
      "GPUs of one host talk through host memory",
      [](const GridLink&) {
        return "unset NCCL_P2P_DISABLE and NCCL_SHM_DISABLE; in containers share the IPC and PID "
               "namespaces of a host's "
               "ranks; switch off ACS or the IOMMU in virtual machines";
      });
  add([](const GridLink& link) { return link.path.way.empty(); }, "an unknown transport",
      [](const GridLink&) {
        return "unset NCCL_DEBUG, or give NCCL_DEBUG_FILE as well, so that NCCL's choice can be "
               "read";
      });
  return findings;
}

namespace {

// A host whose best way is far worse than the better ways of the cluster has a trouble of its own;
// else a single way may have. The better ways: the best quarter, so that one bad host of three,
// which has two ways of three, does not pass for usual.
struct Usual {
  double latency_microseconds;
  double gigabytes_per_second;

  explicit Usual(std::vector<Link> links) {
    const auto quarter = links.begin() + static_cast<std::ptrdiff_t>(links.size() / 4);
    std::ranges::nth_element(links, quarter, {}, &Link::latency_microseconds);
    latency_microseconds = quarter->latency_microseconds;
    std::ranges::nth_element(links, quarter, std::greater(), &Link::gigabytes_per_second);
    gigabytes_per_second = quarter->gigabytes_per_second;
  }
  // What is wrong with such figures; empty: nothing.
  std::string complaint(double latency, double speed) const {
    if (latency > outlier_factor * latency_microseconds) {
      return fmt::format("messages take {:.0f} us, elsewhere {:.0f}", latency,
                         latency_microseconds);
    }
    if (speed < gigabytes_per_second / outlier_factor) {
      return fmt::format("{:.2f} GB/s, elsewhere {:.2f}", speed, gigabytes_per_second);
    }
    return "";
  }
};

void judge_network(const HostMesh& mesh, std::vector<Finding>& findings) {
  if (mesh.links.size() < 3) return;  // too few to say which of them stands out
  const Usual usual(mesh.links);
  const char* remedy = "look at its cable, port errors (ethtool -S, perfquery) and routes";
  std::set<int> slow_hosts;
  for (int host = 0; host < static_cast<int>(mesh.hosts.size()); ++host) {
    double latency = std::numeric_limits<double>::infinity();
    double speed = 0;
    for (const Link& link : mesh.links) {
      if (link.from != host && link.to != host) continue;
      latency = std::min(latency, link.latency_microseconds);
      speed = std::max(speed, link.gigabytes_per_second);
    }
    const std::string complaint = usual.complaint(latency, speed);
    if (complaint.empty()) continue;
    slow_hosts.insert(host);
    findings.push_back({Severity::warning,
                        fmt::format("MPI from and to host {}: {}",
                                    mesh.hosts[static_cast<std::size_t>(host)].name, complaint),
                        remedy});
  }
  for (const Link& link : mesh.links) {
    if (slow_hosts.contains(link.from) || slow_hosts.contains(link.to)) continue;
    const std::string complaint =
        usual.complaint(link.latency_microseconds, link.gigabytes_per_second);
    if (complaint.empty()) continue;
    findings.push_back({Severity::warning,
                        fmt::format("MPI between hosts {} and {}: {}",
                                    mesh.hosts[static_cast<std::size_t>(link.from)].name,
                                    mesh.hosts[static_cast<std::size_t>(link.to)].name, complaint),
                        remedy});
  }
}

}  // namespace

std::vector<Finding> judge_mesh(const HostMesh& mesh) {
  std::vector<Finding> findings;
  const auto name = [&](int host) { return mesh.hosts[static_cast<std::size_t>(host)].name; };
  for (std::size_t host = 0; host < mesh.clock_seconds.size(); ++host) {
    if (std::abs(mesh.clock_seconds[host]) <= largest_skew_seconds) continue;
    findings.push_back(
        {Severity::warning,
         fmt::format("the clock of host {} is {:+.1f} s from that of host {}",
                     name(static_cast<int>(host)), mesh.clock_seconds[host], name(0)),
         "chronyc tracking (or timedatectl) on that host"});
  }
  judge_network(mesh, findings);
  return findings;
}

}  // namespace millrace
