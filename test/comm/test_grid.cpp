// The grid's arithmetic, and the communicators made from it on the ranks that CMake names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "comm/environment.hpp"
#include "comm/grid.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

const Comm& world() {
  static const Environment instance;
  return instance.world();
}

std::vector<GridShape> all_shapes(int ranks) {
  std::vector<GridShape> shapes;
  for (int data = 1; data <= ranks; ++data) {
    for (int pipeline = 1; pipeline <= ranks; ++pipeline) {
      for (int tensor = 1; tensor <= ranks; ++tensor) {
        if (data * pipeline * tensor == ranks) shapes.push_back({data, pipeline, tensor});
      }
    }
  }
  return shapes;
}

TEST(GridCoordinates, TensorRunsFastestThenPipelineThenData) {
  const GridShape shape{2, 3, 4};
  EXPECT_EQ(coordinates_of(0, shape), (GridCoordinates{0, 0, 0}));
  EXPECT_EQ(coordinates_of(1, shape), (GridCoordinates{0, 0, 1}));
  EXPECT_EQ(coordinates_of(4, shape), (GridCoordinates{0, 1, 0}));
  EXPECT_EQ(coordinates_of(12, shape), (GridCoordinates{1, 0, 0}));
  EXPECT_EQ(coordinates_of(23, shape), (GridCoordinates{1, 2, 3}));
}

TEST(GridCoordinates, AndRanksAreInversesOfEachOther) {
  for (const int ranks : {1, 6, 24, 64}) {
    for (const GridShape& shape : all_shapes(ranks)) {
      for (int rank = 0; rank < ranks; ++rank) {
        EXPECT_EQ(rank_of(coordinates_of(rank, shape), shape), rank);
      }
    }
  }
}

TEST(GridRanks, OfEachAxisShareTheOtherCoordinates) {
  const GridShape shape{2, 3, 4};
  EXPECT_EQ(tensor_ranks({1, 2, 1}, shape), (std::vector<int>{20, 21, 22, 23}));
  EXPECT_EQ(pipeline_ranks({1, 2, 1}, shape), (std::vector<int>{13, 17, 21}));
  EXPECT_EQ(replica_ranks({1, 2, 1}, shape),
            (std::vector<int>{12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}));
  EXPECT_EQ(leader_ranks(shape), (std::vector<int>{0, 12}));
}

TEST(GridShapeCheck, NamesTheValuesThatDoNotFit) {
  EXPECT_NO_THROW(check_grid_shape({2, 2, 2}, 8));
  try {
    check_grid_shape({2, 1, 3}, 4);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), ::testing::AllOf(::testing::HasSubstr("tensor 3"),
                                               ::testing::HasSubstr("needs 6 ranks"),
                                               ::testing::HasSubstr("4 were started")));
  }
  EXPECT_THROW(check_grid_shape({0, 1, 1}, 0), UserError);
  EXPECT_THROW(check_grid_shape({-1, -1, 4}, 4), UserError);
  EXPECT_THROW(check_grid_shape({1 << 16, 1 << 16, 1}, 0), UserError);  // no overflow to 0
}

TEST(GridShapeCheck, RefusesAxesWhoseProductMayBeNoInteger) {
  const auto error_of = [](const GridShape& shape) -> std::string {
    try {
      check_grid_shape(shape, 0);
    } catch (const UserError& error) {
      return error.what();
    }
    return "none";
  };
  constexpr int most = 1 << 20;
  constexpr int largest = std::numeric_limits<int>::max();
  EXPECT_THAT(error_of({most, most, most}),
              ::testing::HasSubstr("needs 1152921504606846976 ranks"));
  // The product of the second is 2^64, 0 in 64 bits, which is this world's size.
  for (const GridShape& shape : {GridShape{1, 1, most + 1}, GridShape{1 << 22, 1 << 22, most},
                                 GridShape{largest, largest, 4}}) {
    EXPECT_THAT(error_of(shape), ::testing::EndsWith("has an axis above 1048576"));
  }
}

TEST(Grid, EveryShapeOfTheWorldHasItsCommunicators) {
  for (const GridShape& shape : all_shapes(world().size())) {
    const Grid grid(world(), shape);
    const GridCoordinates at = coordinates_of(world().rank(), shape);
    EXPECT_EQ(grid.coordinates(), at);
    EXPECT_EQ(grid.tensor().size(), shape.tensor);
    EXPECT_EQ(grid.tensor().rank(), at.tensor);
    EXPECT_EQ(grid.pipeline().size(), shape.pipeline);
    EXPECT_EQ(grid.pipeline().rank(), at.pipeline);
    EXPECT_EQ(grid.results().rank(), at.pipeline);
    EXPECT_EQ(grid.replica().size(), shape.pipeline * shape.tensor);
    EXPECT_EQ(grid.replica().rank(), at.pipeline * shape.tensor + at.tensor);
    EXPECT_EQ(grid.node().size(), world().size());
    EXPECT_EQ(grid.is_leader(), at.pipeline == 0 && at.tensor == 0);
    if (grid.is_leader()) {
      EXPECT_EQ(grid.leaders().size(), shape.data);
      EXPECT_EQ(grid.leaders().rank(), at.data);
    } else {
      EXPECT_THROW(grid.leaders(), std::logic_error);
    }
    // The members are the ones that the arithmetic names.
    const int me = world().rank();
    std::int64_t sum = 0;
    for (const int rank : pipeline_ranks(at, shape)) sum += rank;
    EXPECT_EQ(grid.pipeline().all_reduce_sum(me), sum);
    sum = 0;
    for (const int rank : tensor_ranks(at, shape)) sum += rank;
    EXPECT_EQ(grid.tensor().all_reduce_sum(me), sum);
  }
}

TEST(Grid, RefusesAShapeThatIsNotTheWorlds) {
  EXPECT_THROW(Grid(world(), {world().size() + 1, 1, 1}), UserError);
}

}  // namespace
}  // namespace millrace
