#include "comm/grid.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <stdexcept>

#include "comm/agree.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

GridCoordinates coordinates_of(int rank, const GridShape& shape) {
  return {rank / (shape.tensor * shape.pipeline), rank / shape.tensor % shape.pipeline,
          rank % shape.tensor};
}

int rank_of(const GridCoordinates& at, const GridShape& shape) {
  return (at.data * shape.pipeline + at.pipeline) * shape.tensor + at.tensor;
}

std::vector<int> tensor_ranks(const GridCoordinates& at, const GridShape& shape) {
  std::vector<int> ranks;
  for (int tensor = 0; tensor < shape.tensor; ++tensor) {
    ranks.push_back(rank_of({at.data, at.pipeline, tensor}, shape));
  }
  return ranks;
}

std::vector<int> pipeline_ranks(const GridCoordinates& at, const GridShape& shape) {
  std::vector<int> ranks;
  for (int stage = 0; stage < shape.pipeline; ++stage) {
    ranks.push_back(rank_of({at.data, stage, at.tensor}, shape));
  }
  return ranks;
}

std::vector<int> data_ranks(const GridCoordinates& at, const GridShape& shape) {
  std::vector<int> ranks;
  for (int data = 0; data < shape.data; ++data) {
    ranks.push_back(rank_of({data, at.pipeline, at.tensor}, shape));
  }
  return ranks;
}

std::vector<int> replica_ranks(const GridCoordinates& at, const GridShape& shape) {
  std::vector<int> ranks;
  for (int stage = 0; stage < shape.pipeline; ++stage) {
    for (int tensor = 0; tensor < shape.tensor; ++tensor) {
      ranks.push_back(rank_of({at.data, stage, tensor}, shape));
    }
  }
  return ranks;
}

std::vector<int> leader_ranks(const GridShape& shape) {
  std::vector<int> ranks;
  for (int data = 0; data < shape.data; ++data) ranks.push_back(rank_of({data, 0, 0}, shape));
  return ranks;
}

void check_grid_shape(const GridShape& shape, int world_size) {
  if (shape.data < 1 || shape.pipeline < 1 || shape.tensor < 1) {
    throw UserError("the grid {} has an axis below 1", to_string(shape));
  }
  constexpr int most = 1 << 20;  // a product of three is an integer then
  if (std::max({shape.data, shape.pipeline, shape.tensor}) > most) {
    throw UserError("the grid {} has an axis above {}", to_string(shape), most);
  }
  const auto ranks = static_cast<long long>(shape.data) * shape.pipeline * shape.tensor;
  if (ranks != world_size) {
    throw UserError("the grid {} needs {} ranks but {} were started", to_string(shape), ranks,
                    world_size);
  }
}

std::string to_string(const GridShape& shape) {
  return fmt::format("data {} x pipeline {} x tensor {}", shape.data, shape.pipeline, shape.tensor);
}

Grid::Grid(const Comm& world, const GridShape& shape) : shape_(shape) {
  check_grid_shape(shape, world.size());
  coordinates_ = coordinates_of(world.rank(), shape);
  world_ = world.duplicate();
  tensor_ = world_.subgroup(tensor_ranks(coordinates_, shape));
  pipeline_ = world_.subgroup(pipeline_ranks(coordinates_, shape));
  results_ = pipeline_.duplicate();
  replica_ = world_.subgroup(replica_ranks(coordinates_, shape));
  if (is_leader()) leaders_ = world_.subgroup(leader_ranks(shape));
  node_ = world_.split_by_host();
}

namespace {

// What is said of a communicator counts its own ranks from 0: here is which they are.
void bind_group(Comm& group, std::string_view name, const std::vector<int>& ranks, Device device,
                const DeviceTraffic& traffic) {
  try {
    group.bind(device, traffic);
  } catch (const UserError& error) {
    if (dynamic_cast<const PeerError*>(&error) != nullptr) throw;
    throw UserError("{} group of ranks {}: {}", name, fmt::join(ranks, ", "), error.what());
  }
}

}  // namespace

void Grid::bind(Device device, bool multicast, std::size_t carried_sum_bytes) {
  bind_group(tensor_, "tensor", tensor_ranks(coordinates_, shape_), device,
             {.sums = true, .carried_sum_bytes = carried_sum_bytes, .multicast = multicast});
  bind_group(pipeline_, "pipeline", pipeline_ranks(coordinates_, shape_), device,
             {.messages = true, .multicast = multicast});
}

const Comm& Grid::leaders() const {
  if (!is_leader()) throw std::logic_error("only the leader of a replica is among the leaders");
  return leaders_;
}

}  // namespace millrace
