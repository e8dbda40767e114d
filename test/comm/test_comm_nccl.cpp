// NCCL against MPI: every operation on device memory gives what the host's gives for the same
// values. Needs a GPU for every rank.
#include <gmock/gmock.h>

#include <chrono>
#include <memory>
#include <numeric>
#include <vector>

#include "comm/all_reduce_add_norm.hpp"
#include "comm/comm_nccl.hpp"
#include "comm/grid.hpp"
#include "kernels/base/buffer.hpp"
#include "kernels/base/error.hpp"
#include "test/comm/gpu_ranks.hpp"

namespace millrace {
namespace {

class NcclTest : public GpuRanks {
 protected:
  static Comm& bound() {
    if (!bound_) {
      bound_ = std::make_unique<Comm>(world().duplicate());
      bound_->bind(device(), {.sums = true, .messages = true});
    }
    return *bound_;
  }
  static void TearDownTestSuite() { bound_.reset(); }

  // All that this rank's GPU has left, but for less than 2 MiB.
  static std::vector<Buffer> all_memory() {
    std::vector<Buffer> memory;
    for (std::size_t bytes = std::size_t{4} << 30; bytes >= std::size_t{2} << 20;) {
      try {
        memory.emplace_back(bytes, device());
      } catch (const UserError&) {
        bytes /= 2;
      }
    }
    return memory;
  }

  // Whole numbers, so that every order of summation gives the same float.
  static std::vector<float> numbers(std::size_t count, int rank) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>((i * 7 + static_cast<std::size_t>(rank) * 131) % 1009);
    }
    return values;
  }

 private:
  static inline std::unique_ptr<Comm> bound_;
};

const std::size_t sizes[] = {1, 3, 1000, 65'537, 1 << 20};

TEST_F(NcclTest, ReductionsAreTheSumsAndMaximaOfAllRanks) {
  EXPECT_EQ(bound().transport_name(), world().size() > 1 ? "NCCL" : "none");
  for (const std::size_t size : sizes) {
    std::vector<float> sum(size, 0);
    std::vector<float> largest(size, 0);
    for (int rank = 0; rank < world().size(); ++rank) {
      const std::vector<float> theirs = numbers(size, rank);
      for (std::size_t i = 0; i < size; ++i) {
        sum[i] += theirs[i];
        largest[i] = std::max(largest[i], theirs[i]);
      }
    }
    const Tensor x = on_gpu(DType::f32, numbers(size, world().rank()));
    bound().all_reduce_sum(x, stream());
    EXPECT_EQ(on_host<float>(x), sum) << size;
    const Tensor y = on_gpu(DType::f32, numbers(size, world().rank()));
    bound().all_reduce_max(y, stream());
    EXPECT_EQ(on_host<float>(y), largest) << size;
  }
  const Tensor wide = on_gpu(DType::i64, std::vector<std::int64_t>{std::int64_t{1} << 50, 3});
  bound().all_reduce_sum(wide, stream());
  const std::int64_t ranks = world().size();
  EXPECT_EQ(on_host<std::int64_t>(wide),
            (std::vector<std::int64_t>{(std::int64_t{1} << 50) * ranks, 3 * ranks}));
}

TEST_F(NcclTest, GathersAndBroadcastsKeepRankOrder) {
  for (const std::size_t size : sizes) {
    const Tensor in = on_gpu(DType::f32, numbers(size, world().rank()));
    const Tensor out(DType::f32, device(), {static_cast<std::int64_t>(size) * world().size()});
    bound().all_gather(out, in, stream());
    std::vector<float> expected;
    for (int rank = 0; rank < world().size(); ++rank) {
      const std::vector<float> theirs = numbers(size, rank);
      expected.insert(expected.end(), theirs.begin(), theirs.end());
    }
    EXPECT_EQ(on_host<float>(out), expected) << size;
    for (int root = 0; root < world().size(); ++root) {
      const Tensor x = on_gpu(DType::f32, numbers(size, world().rank()));
      bound().broadcast(x, root, stream());
      EXPECT_EQ(on_host<float>(x), numbers(size, root)) << size;
    }
  }
}

TEST_F(NcclTest, MessagesGoAlongAChain) {
  const int rank = world().rank();
  const int last = world().size() - 1;
  if (last == 0) GTEST_SKIP() << "one rank has nobody to send to";
  for (const std::size_t count : sizes) {
    const Tensor x = on_gpu(DType::f32, numbers(count, rank));
    if (rank > 0) bound().recv(x, rank - 1, stream());
    if (rank < last) bound().send(x, rank + 1, stream());
    EXPECT_EQ(on_host<float>(x), numbers(count, 0)) << count;
  }
}

// Before NCCL or a GPU is touched.
TEST(NcclArrival, NamesTheRanksThatDidNotCome) {
  const Environment environment;
  const Comm comm = environment.world().duplicate();
  if (comm.size() == 1) GTEST_SKIP() << "one rank waits for nobody";
  if (comm.rank() == 0) {
    std::string missing = "1";
    for (int rank = 2; rank < comm.size(); ++rank) missing += ", " + std::to_string(rank);
    EXPECT_THAT(
        [&] {
          cuda::make_nccl_transport(comm, Device::cuda(0), {},
                                    {.arrival_seconds = 0.2, .init_seconds = 1});
        },
        ::testing::ThrowsMessage<UserError>(
            ::testing::HasSubstr("rank " + missing + " of the " + std::to_string(comm.size()))));
  }
  comm.barrier();
}

// No machine has so many GPUs.
TEST(NcclArrival, AGroupOfAGridIsNamedByItsRanksInTheWorld) {
  const Environment environment;
  const Comm& world = environment.world();
  if (world.size() == 1) GTEST_SKIP() << "one rank needs no NCCL";
  std::string ranks = "0";
  for (int rank = 1; rank < world.size(); ++rank) ranks += ", " + std::to_string(rank);
  const GridShape shape{1, world.size(), 1};
  EXPECT_THAT([&] { Grid(world, shape).bind(Device::cuda(63)); },
              ::testing::ThrowsMessage<UserError>(::testing::HasSubstr(
                  "pipeline group of ranks " + ranks + ": NCCL does not start")));
}

// Nobody waits for the rank that has none, and all say what it was.
TEST_F(NcclTest, AGpuWithoutMemoryEndsTheMakingOnAllRanks) {
  if (ranks() == 1) GTEST_SKIP() << "one rank makes nothing";
  if (ranks_per_gpu() > 1) GTEST_SKIP() << "the memory of a GPU of its own is filled";
  const Comm comm = world().duplicate();
  (void)stream();
  const std::vector<Buffer> taken = is_last() ? all_memory() : std::vector<Buffer>();
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(
      [&] {
        cuda::make_nccl_transport(comm, device(), {}, {.arrival_seconds = 60, .init_seconds = 120});
      },
      ::testing::ThrowsMessage<UserError>(::testing::HasSubstr("out of memory")));
  const std::chrono::duration<double> taken_seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(taken_seconds.count(), 30);
}

TEST_F(NcclTest, SumsSayWhichWayTheyTake) {
  EXPECT_EQ(bound().describe_sums().empty(), world().size() == 1);
}

// Shapes that any way may serve, and one that only NCCL does.
TEST_F(NcclTest, SumsJoinedWithTheNormAreThoseOfBothApart) {
  for (const std::int64_t hidden : {1026, 4096}) {
    for (const std::int64_t tokens : {1, 40, 3000}) {
      const auto count = static_cast<std::size_t>(tokens * hidden);
      const auto rows = [&](int seed) { return on_gpu(DType::f32, numbers(count, seed)); };
      const auto as_rows = [&](const Tensor& flat) { return flat->reshape({tokens, hidden}); };
      const Tensor weight = on_gpu(DType::f32, numbers(static_cast<std::size_t>(hidden), 5));
      NormWeights norm;
      norm.weight = weight;
      const Tensor x = rows(world().rank());
      const Tensor residual = rows(50);
      const Tensor out = rows(51);
      all_reduce_add_norm(bound(), as_rows(out), as_rows(residual), as_rows(x), norm, stream());
      const Tensor x_apart = rows(world().rank());
      const Tensor residual_apart = rows(50);
      const Tensor out_apart = rows(51);
      bound().all_reduce_sum(x_apart, stream());
      add_norm(as_rows(out_apart), as_rows(residual_apart), as_rows(x_apart), norm, stream());
      EXPECT_EQ(on_host<float>(residual), on_host<float>(residual_apart)) << hidden;
      EXPECT_EQ(on_host<float>(out), on_host<float>(out_apart)) << hidden;
    }
  }
}

}  // namespace
}  // namespace millrace
