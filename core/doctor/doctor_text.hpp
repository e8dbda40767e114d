// What millrace-doctor prints. Pure functions.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "comm/host_mesh.hpp"
#include "core/cluster/findings.hpp"
#include "core/cluster/rank_facts.hpp"
#include "core/io/report.hpp"

namespace millrace {

// A line for each host, a line for each GPU, and the software.
std::string hosts_text(std::span<const RankFacts> ranks);

// A line for each pair of hosts, of many only the slowest, and the clocks.
std::string mesh_text(const HostMesh& mesh);

// A line for each measured link.
std::string link_text(const LinkRow& row);

// The findings, failures first, each with its remedy, and the verdict.
std::string verdict_text(std::vector<Finding> findings, double seconds);

}  // namespace millrace
