// The judgement: from the facts of all ranks to what is wrong with a cluster, where, and what
// helps. Pure functions; a healthy cluster gives nothing.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "comm/host_mesh.hpp"
#include "core/cluster/grid_links.hpp"
#include "core/cluster/rank_facts.hpp"

namespace millrace {

// 10 * major + minor: older GPUs lack what the kernels use.
inline constexpr int least_capability = 80;
// "8.0"
std::string capability_text(int capability);

enum class Severity { warning, failure };  // works badly, or may; cannot work

struct Finding {
  Severity severity = Severity::warning;
  std::string what;    // one line, naming hosts
  std::string remedy;  // one line
  friend bool operator==(const Finding&, const Finding&) = default;
};

// "n0, n1": the names in order, without repetitions; beyond four "n0, n1, n2 and 13 others".
std::string names_text(const std::vector<std::string>& hosts);

// "13.0 on n0, n1; 12.8 on n2", the commonest value first; empty when all are equal. Ranks whose
// value is empty do not count.
std::string difference(std::span<const RankFacts> ranks,
                       const std::function<std::string(const RankFacts&)>& value);

// What must be known before a job begins: programs, models, devices and libraries that differ.
// Cheap.
std::vector<Finding> compare_ranks(std::span<const RankFacts> ranks);

// What each host is short of: shared memory, locked memory, cores, GPU memory, networks.
std::vector<Finding> judge_hosts(std::span<const RankFacts> ranks);

// Ways that are slower than the machines under them.
std::vector<Finding> judge_links(std::span<const RankFacts> ranks,
                                 const std::vector<GridLink>& links);

// Hosts whose network or clock stands out.
std::vector<Finding> judge_mesh(const HostMesh& mesh);

}  // namespace millrace
