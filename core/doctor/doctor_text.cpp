#include "core/doctor/doctor_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/plan/human_bytes.hpp"

namespace millrace {
namespace {

constexpr std::size_t most_pairs_shown = 16;

std::string memlock_text(std::int64_t bytes) {
  return bytes < 0 ? "unlimited" : human_bytes(bytes);
}

// "the same everywhere" or which hosts differ.
std::string software_line(const char* name, std::span<const RankFacts> ranks,
                          const std::function<std::string(const RankFacts&)>& value) {
  std::string text = difference(ranks, value);
  for (const RankFacts& rank : ranks) {
    if (text.empty()) text = value(rank);
  }
  return text.empty() ? "" : fmt::format("  {:<9} {}\n", name, text);
}

}  // namespace

std::string hosts_text(std::span<const RankFacts> ranks) {
  std::string text;
  std::set<std::string> seen;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const RankFacts& first = ranks[i];
    if (!seen.insert(first.host).second) continue;
    std::vector<int> here;
    std::set<int> cores;
    for (std::size_t rank = i; rank < ranks.size(); ++rank) {
      if (ranks[rank].host != first.host) continue;
      here.push_back(static_cast<int>(rank));
      cores.insert(ranks[rank].cores.begin(), ranks[rank].cores.end());
    }
    text += fmt::format(
        "  {}: rank{} {}, cores {} of {}, {} free, /dev/shm {} free of {}, memlock {}\n",
        first.host, here.size() == 1 ? "" : "s", ranges_text(here),
        ranges_text({cores.begin(), cores.end()}), first.host_cores,
        human_bytes(first.free_memory_bytes), human_bytes(first.shm_free_bytes),
        human_bytes(first.shm_bytes), memlock_text(first.memlock_bytes));
    for (const std::string& port : first.active_ports) text += fmt::format("    {}\n", port);
    for (const int rank : here) {
      const RankFacts& facts = ranks[static_cast<std::size_t>(rank)];
      if (facts.device.is_cpu()) continue;
      text += fmt::format(
          "    rank {}: {} {} {} {}, {} free of {}{}\n", rank, to_string(facts.device),
          facts.gpu.name, facts.gpu.pci_id, facts.gpu.uuid, human_bytes(facts.gpu.free_bytes),
          human_bytes(facts.gpu.memory_bytes),
          facts.gpu_links.empty() ? "" : "; to the host's other GPUs " + facts.gpu_links);
    }
  }
  text += "software\n";
  text += software_line("millrace", ranks, [](const RankFacts& r) {
    return fmt::format("{}, build {}", r.version, r.build.empty() ? "?" : r.build.substr(0, 12));
  });
  text += software_line("MPI", ranks, [](const RankFacts& r) { return r.mpi; });
  text += software_line("NCCL", ranks, [](const RankFacts& r) { return r.nccl; });
  text += software_line("CUDA", ranks, [](const RankFacts& r) {
    return r.device.is_cpu() ? ""
                             : fmt::format("runtime {}, driver {} (CUDA {})", r.gpu.runtime_version,
                                           r.driver.empty() ? "?" : r.driver, r.gpu.driver_cuda);
  });
  return text;
}

std::string mesh_text(const HostMesh& mesh) {
  if (mesh.hosts.size() < 2) return "";
  std::string text = "MPI between hosts, one rank of each\n";
  if (!mesh.all_pairs) {
    text += fmt::format("  {} hosts: each was measured against those {}, ... places after it\n",
                        mesh.hosts.size(), fmt::join(mesh.distances, ", "));
  }
  std::vector<Link> links = mesh.links;
  std::ranges::stable_sort(links, {}, &Link::gigabytes_per_second);
  if (links.size() > most_pairs_shown) {
    text += fmt::format("  the slowest {} of {} pairs\n", most_pairs_shown, links.size());
    links.resize(most_pairs_shown);
  } else {
    std::ranges::sort(links, {}, [](const Link& link) { return std::pair(link.from, link.to); });
  }
  const auto name = [&](int host) { return mesh.hosts[static_cast<std::size_t>(host)].name; };
  for (const Link& link : links) {
    text += fmt::format("  {} - {}: {:.1f} us, {:.2f} GB/s\n", name(link.from), name(link.to),
                        link.latency_microseconds, link.gigabytes_per_second);
  }
  const auto worst = std::ranges::max_element(mesh.clock_seconds, {},
                                              [](double seconds) { return std::abs(seconds); });
  text += fmt::format("  clocks: the farthest from {}'s is {}'s, by {:+.6f} s\n", name(0),
                      name(static_cast<int>(worst - mesh.clock_seconds.begin())), *worst);
  return text;
}

std::string link_text(const LinkRow& row) {
  return fmt::format("  {} {} - {}: {}, {:.1f} us, {:.2f} GB/s\n", row.communicator, row.from,
                     row.to, row.transport.empty() ? "an unknown way" : row.transport,
                     row.latency_microseconds, row.gigabytes_per_second);
}

std::string verdict_text(std::vector<Finding> findings, double seconds) {
  std::ranges::stable_sort(findings, std::ranges::greater(), &Finding::severity);
  std::string text;
  for (const Finding& finding : findings) {
    text += fmt::format("{}: {}\n  remedy: {}\n",
                        finding.severity == Severity::failure ? "FAILURE" : "warning", finding.what,
                        finding.remedy);
  }
  const auto failures = std::ranges::count(findings, Severity::failure, &Finding::severity);
  const auto warnings = std::ssize(findings) - failures;
  const auto counted = [](auto count, const char* what) {
    return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
  };
  std::string verdict = failures > 0 ? "not fit for a job" : "healthy";
  if (!findings.empty()) {
    verdict += fmt::format(", {}", failures > 0 ? counted(failures, "failure") : "");
    if (failures > 0 && warnings > 0) verdict += ", ";
    if (warnings > 0) verdict += counted(warnings, "warning");
  }
  return text + fmt::format("verdict: {} ({:.1f} s)\n", verdict, seconds);
}

}  // namespace millrace
