// Which ranks load weights together, and whether they do.
#pragma once

#include <optional>
#include <string>

#include "comm/grid.hpp"
#include "core/job/rank_model.hpp"
#include "core/weights/load_peers.hpp"
#include "core/weights/load_strategy.hpp"

namespace millrace {

class WeightSharing {
 public:
  // Chooses the strategy and makes what it needs, alike on all ranks. Collective over the world.
  WeightSharing(const Grid& grid, const JobPlan& plan, const ModelConfig& config);

  // The strategy and why.
  const std::string& explanation() const { return choice_.explanation; }
  // What load_weights() takes: null when each rank reads alone. Lives as long as this and the grid.
  const LoadPeers* peers() const { return peers_ ? &*peers_ : nullptr; }

 private:
  LoadChoice choice_;
  Comm replicas_;  // the ranks with the same slices
  std::optional<LoadPeers> peers_;
};

}  // namespace millrace
