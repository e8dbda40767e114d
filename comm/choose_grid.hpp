// The grid when the user leaves axes open. A pure function of what is known of hosts and model,
// with one line that explains the choice.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "comm/grid.hpp"

namespace millrace {

struct GridQuestion {
  int world_size = 1;
  int ranks_per_host = 1;          // of the smallest host
  bool fast_links_in_host = true;  // NVLink between all GPUs of a host; memory shared by CPU ranks
  // What the user gave; the rest is chosen.
  std::optional<int> data;
  std::optional<int> pipeline;
  std::optional<int> tensor;
  // What the model can take.
  int most_tensor = 1;    // tensor ranks: its query heads
  int most_pipeline = 1;  // stages: its layers
  // True when one rank of such a grid holds its weights and the cache of at least one whole
  // request. Cutting further never makes a model stop fitting.
  std::function<bool(int pipeline, int tensor)> fits;
};

struct GridChoice {
  GridShape shape;
  // "data 4 x pipeline 1 x tensor 2: the model needs 2 ranks, which share fast links".
  std::string explanation;
};

// The model fits one rank: data parallel. Else the fewest ranks to a replica that hold it, tensor
// parallel within a host and pipeline parallel across hosts; without fast links in the host,
// pipeline parallel there too. A tensor group never spans hosts unless the user says so. When
// nothing fits, the most ranks to a replica, and the explanation says so. Throws UserError with the
// values when no grid of the world's size has the given axes and suits the model's limits.
GridChoice choose_grid(const GridQuestion& question);

}  // namespace millrace
