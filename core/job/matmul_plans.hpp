// The algorithms of matrix products on GPUs: measured once for a GPU, driver and library, and kept
// in a file of the user's cache, so that later jobs start with them.
#pragma once

#include <string>

#include "comm/comm.hpp"
#include "core/plan/grid_plan.hpp"
#include "core/weights/loader.hpp"
#include "kernels/base/device.hpp"

namespace millrace {

// MILLRACE_CACHE, or millrace/ in XDG_CACHE_HOME or in ~/.cache; empty when none of them is set.
std::string cache_folder();

// Has a plan ready for every product of this rank's weights in steps of these options. Reads the
// file, measures what it lacks, for hardly more than four seconds (what is left over is measured by
// later jobs; until then the library's guess serves), and writes it. Says in one line what it did;
// nothing on CPUs. Collective over the node.
void prepare_matmul_plans(const Comm& node, const RankWeights& weights, const PlanOptions& options,
                          Device device);

}  // namespace millrace
