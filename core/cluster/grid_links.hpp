// The ways between the ranks of a grid: told in the log and the report, and held against what the
// user requires.
#pragma once

#include <string>
#include <vector>

#include "comm/grid.hpp"
#include "comm/links.hpp"
#include "core/config/run_config.hpp"
#include "core/io/report.hpp"

namespace millrace {

// A way of a tensor or pipeline group, between two ranks of the world.
struct GridLink {
  std::string communicator;  // "tensor", "pipeline"
  LinkPath path;             // from and to are world ranks
  std::string from_host;
  std::string to_host;
};

// All ways of all groups, on rank 0; nothing elsewhere. Collective over the grid's world.
std::vector<GridLink> grid_links(const Grid& grid, Device device);

// The first link that is slower than --require-transport asks for, as the message that names it;
// empty when all are fast enough. A pure function.
std::string too_slow(const std::vector<GridLink>& links,
                     const std::vector<RequiredTransport>& required);

// "links: tensor NVLink P2P/CUMEM/read; pipeline NET/IB/0/GDRDMA": each group's ways, the slowest
// first, with how many links of how many when they differ. Empty when there are no links.
std::string links_line(const std::vector<GridLink>& links);

// "rank 2 on n1 to rank 3 on n2 by NET/Socket/0".
std::string describe(const GridLink& link);

// GPUs of one host that do not reach each other's memory.
bool is_slow_for_gpus(const LinkPath& path);

// One line when tensor ranks talk to each other so slowly that each layer waits for it; else
// nothing. A pure function.
std::string slow_link_warning(const std::vector<GridLink>& links);

// Measures the ways between neighbouring ranks of every tensor and pipeline group, for rank 0's
// report. Takes some milliseconds in which nothing else should run. Collective over the grid's
// world.
std::vector<LinkRow> measure_grid_links(const Grid& grid, Device device,
                                        const std::vector<GridLink>& links);

}  // namespace millrace
