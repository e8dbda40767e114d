#include "core/job/start_check.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "comm/agree.hpp"
#include "comm/hosts.hpp"
#include "core/cluster/build_id.hpp"
#include "core/cluster/findings.hpp"
#include "core/job/log.hpp"
#include "core/version.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// Failures as one UserError on all ranks, warnings into the log. On rank 0 the findings count.
void act_on(const Comm& world, const std::vector<Finding>& findings) {
  agree(world, [&] {
    for (const Finding& finding : findings) {
      if (finding.severity == Severity::failure) {
        throw UserError("{}; {}", finding.what, finding.remedy);
      }
      log_warning("{}; {}", finding.what, finding.remedy);
    }
  });
}

// "8 x NVIDIA H100 80GB HBM3 (NV18)", "4 CPU ranks".
std::string describe_host(const std::vector<const RankFacts*>& ranks) {
  if (ranks.front()->device.is_cpu()) {
    return fmt::format("{} CPU rank{}", ranks.size(), ranks.size() == 1 ? "" : "s");
  }
  std::string links;  // the first rank's, each kind once
  std::string rest = ranks.front()->gpu_links;
  while (!rest.empty()) {
    const std::string link = rest.substr(0, rest.find(' '));
    rest.erase(0, std::min(rest.size(), link.size() + 1));
    if (links.find(link) == std::string::npos) links += (links.empty() ? "" : ", ") + link;
  }
  return fmt::format("{} x {}{}", ranks.size(), ranks.front()->gpu.name,
                     links.empty() ? "" : fmt::format(" ({})", links));
}

}  // namespace

void check_programs(const Comm& world) {
  // Lines of text, which every version understands.
  const std::string mine = fmt::format("{}\n{}\n{}", host_name(), version(), build_id());
  std::vector<RankFacts> ranks;
  for (const Bytes& bytes : world.gather_bytes(as_bytes(mine), 0)) {
    const std::string text(as_text(bytes));
    const std::size_t first = text.find('\n');
    const std::size_t second = text.find('\n', first + 1);
    RankFacts& rank = ranks.emplace_back();
    rank.host = text.substr(0, first);
    rank.version = text.substr(first + 1, second - first - 1);
    rank.build = text.substr(second + 1);
  }
  act_on(world, compare_ranks(ranks));
}

void check_models(const Comm& world, const std::string& model) {
  RankFacts mine;
  mine.host = host_name();
  mine.model = model_facts_of_host(world, world.split_by_host(), model);
  check_facts(world, mine);
}

std::vector<RankFacts> check_facts(const Comm& world, const RankFacts& mine) {
  std::vector<RankFacts> ranks = gather_facts(world, mine);
  act_on(world, compare_ranks(ranks));
  return ranks;
}

std::vector<RankFacts> check_hosts(const Comm& world, Device device) {
  const Comm node = world.split_by_host();
  RankFacts mine = agree(world, [&] { return collect_facts(device); });
  meet_neighbours(mine, node);
  std::vector<RankFacts> ranks = check_facts(world, mine);
  for (const std::string& line : host_lines(ranks)) log_info("{}", line);
  return ranks;
}

std::vector<GridLink> check_links(const Grid& grid, Device device, const LinkConfig& config) {
  std::vector<GridLink> links = grid_links(grid, device);
  if (const std::string line = links_line(links); !line.empty()) log_info("{}", line);
  if (const std::string line = slow_link_warning(links); !line.empty()) log_warning("{}", line);
  agree(grid.world(), [&] {
    if (const std::string line = too_slow(links, config.required); !line.empty()) {
      throw UserError("{}", line);
    }
  });
  return links;
}

std::vector<std::string> host_lines(const std::vector<RankFacts>& ranks) {
  const std::vector<RanksOfHost> hosts = by_host(ranks);
  if (hosts.empty() || (hosts.size() == 1 && ranks.front().device.is_cpu())) return {};
  std::vector<std::string> lines;
  for (const auto& [host, on_host] : hosts) {
    lines.push_back(fmt::format("host {}: {}", host, describe_host(on_host)));
  }
  const std::string first = describe_host(hosts.front().second);
  const bool alike = std::ranges::all_of(
      hosts, [&](const auto& host) { return describe_host(host.second) == first; });
  if (alike && hosts.size() > 1) return {fmt::format("{} hosts of {} each", hosts.size(), first)};
  return lines;
}

}  // namespace millrace
