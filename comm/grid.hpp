// The world as a grid of data x pipeline x tensor ranks. Rank order: tensor fastest, then pipeline,
// then data, so that the ranks that talk most are neighbours on a host.
#pragma once

#include <string>
#include <vector>

#include "comm/comm.hpp"

namespace millrace {

struct GridShape {
  int data = 1;
  int pipeline = 1;
  int tensor = 1;

  int ranks() const { return data * pipeline * tensor; }
  friend bool operator==(const GridShape&, const GridShape&) = default;
};

struct GridCoordinates {
  int data = 0;
  int pipeline = 0;
  int tensor = 0;
  friend bool operator==(const GridCoordinates&, const GridCoordinates&) = default;
};

GridCoordinates coordinates_of(int rank, const GridShape& shape);
int rank_of(const GridCoordinates& at, const GridShape& shape);

// World ranks that share every coordinate but the named ones with `at`, in rank order.
std::vector<int> tensor_ranks(const GridCoordinates& at, const GridShape& shape);
std::vector<int> pipeline_ranks(const GridCoordinates& at, const GridShape& shape);
std::vector<int> data_ranks(const GridCoordinates& at, const GridShape& shape);
std::vector<int> replica_ranks(const GridCoordinates& at, const GridShape& shape);
std::vector<int> leader_ranks(const GridShape& shape);

// Throws UserError with the values unless every axis is from 1 to 2^20 and data x pipeline x tensor
// is the world's size.
void check_grid_shape(const GridShape& shape, int world_size);

// "data 2 x pipeline 1 x tensor 4".
std::string to_string(const GridShape& shape);

class Grid {
 public:
  // Collective over `world`, of which the grid keeps a duplicate.
  Grid(const Comm& world, const GridShape& shape);

  // Makes the communicators that carry activations, tensor() and pipeline(), ready for memory of
  // `device`; `multicast` lets NVLink switches add (NVLS), `carried_sum_bytes` is as in
  // DeviceTraffic. Collective over the world.
  void bind(Device device, bool multicast = false, std::size_t carried_sum_bytes = 0);

  const GridShape& shape() const { return shape_; }
  const GridCoordinates& coordinates() const { return coordinates_; }
  // The first rank of a replica: it reads prompts and writes results.
  bool is_leader() const { return replica_.rank() == 0; }
  bool is_first_stage() const { return coordinates_.pipeline == 0; }
  bool is_last_stage() const { return coordinates_.pipeline == shape_.pipeline - 1; }

  const Comm& world() const { return world_; }
  // Ranks of one stage of one replica; rank = tensor coordinate.
  const Comm& tensor() const { return tensor_; }
  // Ranks with the same tensor coordinate in one replica; rank = stage.
  const Comm& pipeline() const { return pipeline_; }
  // The same ranks as pipeline(), for the last stage's results, which travel against the
  // activations.
  const Comm& results() const { return results_; }
  // All ranks of one replica; rank = stage x tensor size + tensor coordinate; the leader is rank 0.
  const Comm& replica() const { return replica_; }
  // The leaders of all replicas; rank = data coordinate. Throws std::logic_error on other ranks.
  const Comm& leaders() const;
  // Ranks on this host.
  const Comm& node() const { return node_; }

 private:
  GridShape shape_;
  GridCoordinates coordinates_;
  Comm world_;
  Comm tensor_;
  Comm pipeline_;
  Comm results_;
  Comm replica_;
  Comm leaders_;
  Comm node_;
};

}  // namespace millrace
