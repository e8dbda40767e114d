// The doctor's quick look at a job's start: what would make ranks fail, or disagree, later and
// darkly is said here, by host.
#pragma once

#include <string>
#include <vector>

#include "comm/comm.hpp"
#include "core/cluster/grid_links.hpp"
#include "core/cluster/rank_facts.hpp"

namespace millrace {

// Refuses ranks whose programs differ: a UserError on all of them. Comes before anything that two
// programs might understand differently; takes a millisecond. Collective.
void check_programs(const Comm& world);

// Refuses hosts that have another model, or none, under this name: a UserError on all ranks that
// names the file and the hosts. Reads both ends of the model's files. Collective.
void check_models(const Comm& world, const std::string& model);

// Every rank's facts on rank 0. Throws a UserError on all ranks when they cannot work together;
// logs what may be a trouble. Collective.
std::vector<RankFacts> check_facts(const Comm& world, const RankFacts& mine);

// Every rank's facts on rank 0, for the report; what the hosts are goes into the log. Throws a
// UserError on all ranks when the devices differ or one is too old; logs what may be a trouble.
// Collective.
std::vector<RankFacts> check_hosts(const Comm& world, Device device);

// The ways between the ranks, on rank 0: told in the log, with a warning when they are slow.
// Throws a UserError on all ranks when one is slower than --require-transport asks for. Collective
// over the grid's world.
std::vector<GridLink> check_links(const Grid& grid, Device device, const LinkConfig& config);

// "2 hosts of 8 x NVIDIA H100 80GB HBM3 (NV18) each": the machines in one line when all are alike,
// else a line per host. Nothing for CPU ranks of one host.
std::vector<std::string> host_lines(const std::vector<RankFacts>& ranks);

}  // namespace millrace
