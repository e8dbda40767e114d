// Every collective against MPI's own, and messages of all lengths, on the ranks that CMake names.
#include <gtest/gtest.h>
#include <mpi.h>

#include <chrono>
#include <cstring>
#include <ctime>
#include <numeric>
#include <random>
#include <string>
#include <thread>

#include "comm/comm_mpi.hpp"
#include "comm/environment.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// Every test runs on both ways that host memory can take: shared memory, and MPI alone.
class CommTest : public ::testing::TestWithParam<bool> {
 protected:
  static const Comm& world() {
    static const Environment environment;
    static const Comm mpi_alone = mpi_world(false);
    return GetParam() ? environment.world() : mpi_alone;
  }
};
INSTANTIATE_TEST_SUITE_P(Over, CommTest, ::testing::Values(true, false),
                         [](const auto& over) { return over.param ? "SharedMemory" : "MpiAlone"; });

std::vector<float> random_floats(std::size_t count, int seed) {
  std::mt19937 generator(static_cast<unsigned>(seed));
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

TensorView view(std::vector<float>& values) {
  return {values.data(), DType::f32, Device::cpu(), {static_cast<std::int64_t>(values.size())}};
}
TensorView view(std::vector<std::int64_t>& values) {
  return {values.data(), DType::i64, Device::cpu(), {static_cast<std::int64_t>(values.size())}};
}

// Sizes around every change of algorithm: one element, odd sizes, a decode step, a prefill step.
const std::vector<std::size_t> sizes = {1,    2,        3,      7,      64,     1000,
                                        4097, 64 * 576, 65'536, 65'537, 300'001};

TEST_P(CommTest, AllReduceSumAddsInRankOrderBitForBit) {
  for (const std::size_t size : sizes) {
    std::vector<float> expected = random_floats(size, 0);
    for (int rank = 1; rank < world().size(); ++rank) {
      const std::vector<float> theirs = random_floats(size, rank);
      for (std::size_t i = 0; i < size; ++i) expected[i] += theirs[i];
    }
    std::vector<float> mine = random_floats(size, world().rank());
    world().all_reduce_sum(view(mine), {});
    ASSERT_EQ(0, std::memcmp(mine.data(), expected.data(), size * sizeof(float))) << size;
  }
}

TEST_P(CommTest, AllReduceSumAgreesWithMpi) {
  for (const std::size_t size : sizes) {
    std::vector<float> mine = random_floats(size, world().rank());
    std::vector<float> expected = mine;
    MPI_Allreduce(MPI_IN_PLACE, expected.data(), static_cast<int>(size), MPI_FLOAT, MPI_SUM,
                  MPI_COMM_WORLD);
    world().all_reduce_sum(view(mine), {});
    for (std::size_t i = 0; i < size; ++i) ASSERT_NEAR(mine[i], expected[i], 1e-5F) << size;
  }
}

TEST_P(CommTest, AllReduceSumAnElementsBitsDoNotDependOnTheSizeOfTheTensor) {
  std::vector<float> large = random_floats(100'000, world().rank());
  std::vector<float> small(large.begin(), large.begin() + 10);
  world().all_reduce_sum(view(large), {});
  world().all_reduce_sum(view(small), {});
  EXPECT_EQ(0, std::memcmp(small.data(), large.data(), 10 * sizeof(float)));
}

TEST_P(CommTest, AllReduceMaxAndMinAgreeWithMpi) {
  for (const std::size_t size : sizes) {
    for (const bool largest : {true, false}) {
      std::vector<float> mine = random_floats(size, world().rank());
      std::vector<float> expected = mine;
      MPI_Allreduce(MPI_IN_PLACE, expected.data(), static_cast<int>(size), MPI_FLOAT,
                    largest ? MPI_MAX : MPI_MIN, MPI_COMM_WORLD);
      largest ? world().all_reduce_max(view(mine), {}) : world().all_reduce_min(view(mine), {});
      ASSERT_EQ(mine, expected) << size;
    }
  }
}

TEST_P(CommTest, AllReduceOfIntegersIsExactBeyondTheFloatsRange) {
  const std::int64_t big = (std::int64_t{1} << 60) / world().size();
  for (const std::size_t size : sizes) {
    std::vector<std::int64_t> mine(size);
    std::iota(mine.begin(), mine.end(), big + world().rank());
    std::vector<std::int64_t> expected = mine;
    MPI_Allreduce(MPI_IN_PLACE, expected.data(), static_cast<int>(size), MPI_INT64_T, MPI_SUM,
                  MPI_COMM_WORLD);
    world().all_reduce_sum(view(mine), {});
    ASSERT_EQ(mine, expected);
  }
  std::vector<std::int32_t> small = {world().rank(), -world().rank()};
  world().all_reduce_max(TensorView(small.data(), DType::i32, Device::cpu(), {2}), {});
  EXPECT_EQ(small, (std::vector<std::int32_t>{world().size() - 1, 0}));
}

TEST_P(CommTest, AllReduceOfOneIntegerSumsAndFindsExtremes) {
  const std::int64_t size = world().size();
  EXPECT_EQ(world().all_reduce_sum(world().rank() + 1), size * (size + 1) / 2);
  EXPECT_EQ(world().all_reduce_max(world().rank()), size - 1);
  EXPECT_EQ(world().all_reduce_min(world().rank() + 5), 5);
}

TEST_P(CommTest, AllGatherPutsTheRanksPartsInOrder) {
  for (const std::size_t size : sizes) {
    std::vector<float> mine = random_floats(size, world().rank());
    std::vector<float> all(size * static_cast<std::size_t>(world().size()));
    world().all_gather(view(all), view(mine), {});
    std::vector<float> expected(all.size());
    MPI_Allgather(mine.data(), static_cast<int>(size), MPI_FLOAT, expected.data(),
                  static_cast<int>(size), MPI_FLOAT, MPI_COMM_WORLD);
    ASSERT_EQ(all, expected);
  }
}

TEST_P(CommTest, AllGatherTakesTheInputFromItsPlaceInTheOutput) {
  std::vector<float> all(static_cast<std::size_t>(world().size()) * 5, -1.0F);
  const TensorView out = view(all);
  const TensorView in = out.slice(0, world().rank() * 5, 5);
  std::fill_n(in.as<float>(), 5, static_cast<float>(world().rank()));
  world().all_gather(out, in, {});
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], static_cast<float>(i / 5));
}

TEST_P(CommTest, BroadcastGivesEveryRankTheRootsTensor) {
  for (const std::size_t size : sizes) {
    for (int root = 0; root < world().size(); ++root) {
      std::vector<float> mine = random_floats(size, world().rank());
      world().broadcast(view(mine), root, {});
      ASSERT_EQ(mine, random_floats(size, root));
    }
  }
}

TEST_P(CommTest, MessagesTurnTheRing) {
  if (world().size() == 1) GTEST_SKIP() << "needs two ranks";
  const int next = (world().rank() + 1) % world().size();
  const int previous = (world().rank() + world().size() - 1) % world().size();
  for (const std::size_t size : sizes) {
    std::vector<float> mine = random_floats(size, world().rank());
    std::vector<float> theirs(size);
    SendHandle sent = world().isend(view(mine), next, {});
    world().recv(view(theirs), previous, {});
    sent.wait();
    ASSERT_EQ(theirs, random_floats(size, previous));
  }
}

TEST_P(CommTest, SendKeepsTheOrderOfSeveralSendsUnderWay) {
  if (world().size() == 1) GTEST_SKIP() << "needs two ranks";
  constexpr int count = 20;
  if (world().rank() == 0) {
    std::vector<std::vector<float>> tensors;
    for (int i = 0; i < count; ++i) tensors.push_back(random_floats(10'000, i));
    std::vector<SendHandle> sends;
    for (auto& tensor : tensors) sends.push_back(world().isend(view(tensor), 1, {}));
    for (auto& send : sends) send.wait();
  } else if (world().rank() == 1) {
    std::vector<float> received(10'000);
    for (int i = 0; i < count; ++i) {
      world().recv(view(received), 0, {});
      ASSERT_EQ(received, random_floats(10'000, i));
    }
  }
}

TEST_P(CommTest, SendOfMoreThanAChannelHoldsStillArrives) {
  if (world().size() == 1) GTEST_SKIP() << "needs two ranks";
  const std::size_t size = 6'000'000;  // 24 MB, and a small one before and after it
  const int peer = world().rank() ^ 1;
  if (peer >= world().size()) return;
  std::vector<float> small = random_floats(100, world().rank());
  std::vector<float> large = random_floats(size, world().rank());
  std::vector<SendHandle> sends;
  sends.push_back(world().isend(view(small), peer, {}));
  sends.push_back(world().isend(view(large), peer, {}));  // both directions at once
  sends.push_back(world().isend(view(small), peer, {}));
  std::vector<float> received(100);
  world().recv(view(received), peer, {});
  EXPECT_EQ(received, random_floats(100, peer));
  std::vector<float> received_large(size);
  world().recv(view(received_large), peer, {});
  EXPECT_EQ(received_large, random_floats(size, peer));
  world().recv(view(received), peer, {});
  EXPECT_EQ(received, random_floats(100, peer));
}

TEST_P(CommTest, CollectivesOfEveryKindMixWithoutHarm) {
  // Ranks run ahead of each other where an operation lets them; boards must not be overwritten.
  const int size = world().size();
  for (int round = 0; round < 300; ++round) {
    const std::size_t count = 1 + static_cast<std::size_t>(round * 37 % 5000);
    const int root = round % size;
    std::vector<float> x(count, static_cast<float>(world().rank() + round));
    world().broadcast(view(x), root, {});
    ASSERT_EQ(x, std::vector<float>(count, static_cast<float>(root + round)));
    world().broadcast(view(x), (root + 1) % size, {});
    world().all_reduce_sum(view(x), {});
    ASSERT_EQ(x, std::vector<float>(count, static_cast<float>(size * (root + round))));
    std::vector<float> all(count * static_cast<std::size_t>(size));
    std::fill(x.begin(), x.end(), static_cast<float>(world().rank()));
    world().all_gather(view(all), view(x), {});
    for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], static_cast<float>(i / count));
  }
}

TEST_P(CommTest, ByteMessagesArriveWholeFromEveryRankAndByTag) {
  const int size = world().size();
  if (size == 1) GTEST_SKIP() << "needs two ranks";
  for (const std::size_t length : {0UL, 1UL, 5000UL, 1'000'000UL}) {
    if (world().rank() != 0) {
      const auto fill = static_cast<std::byte>(world().rank());
      SendHandle later = world().isend_bytes(Bytes(length, fill), 0, 7);
      world().send_bytes(Bytes(3, fill), 0, 9);
      later.wait();
      world().barrier();
      continue;
    }
    for (int peer = size - 1; peer > 0; --peer) {  // tag 9 first, although it was sent second
      EXPECT_EQ(world().receive_bytes(peer, 9), Bytes(3, static_cast<std::byte>(peer)));
    }
    std::vector<bool> seen(static_cast<std::size_t>(size));
    for (int i = 1; i < size; ++i) {
      const Message message = world().receive_message(Comm::any_rank, 7);
      EXPECT_EQ(message.bytes, Bytes(length, static_cast<std::byte>(message.source)));
      EXPECT_FALSE(seen[static_cast<std::size_t>(message.source)]);
      seen[static_cast<std::size_t>(message.source)] = true;
    }
    EXPECT_FALSE(world().try_receive(Comm::any_rank, 7).has_value());
    world().barrier();  // before the next length's messages
  }
}

TEST_P(CommTest, HostObjectsAreGatheredAndBroadcastWithTheirOwnLengths) {
  const std::string text(static_cast<std::size_t>(world().rank() * 3), 'x');
  const auto all = world().all_gather_bytes(as_bytes(text));
  ASSERT_EQ(all.size(), static_cast<std::size_t>(world().size()));
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    EXPECT_EQ(as_text(all[rank]), std::string(rank * 3, 'x'));
  }
  const int root = world().size() - 1;
  const auto gathered = world().gather_bytes(as_bytes(text), root);
  EXPECT_EQ(gathered, world().rank() == root ? all : std::vector<Bytes>{});
  Bytes bytes(world().rank() == root ? 12'345 : 2, static_cast<std::byte>(world().rank()));
  world().broadcast_bytes(bytes, root);
  EXPECT_EQ(bytes, Bytes(12'345, static_cast<std::byte>(root)));
}

TEST_P(CommTest, SplitMakesCommunicatorsThatDoNotHearEachOther) {
  const Comm half = world().split(world().rank() % 2, -world().rank());
  EXPECT_EQ(half.size(), (world().size() + 1 - world().rank() % 2) / 2);
  EXPECT_EQ(half.all_reduce_max(world().rank() % 2), world().rank() % 2);
  // Keys are negative ranks: the highest world rank comes first.
  EXPECT_EQ(half.all_reduce_max(half.rank() == 0 ? world().rank() : -1),
            half.all_reduce_max(world().rank()));
  const Comm alone = world().split(-1, 0);
  EXPECT_EQ(alone.size(), 1);
}

TEST_P(CommTest, SplitByHostFindsThatAllTestRanksShareMemory) {
  EXPECT_EQ(world().split_by_host().size(), world().size());
}

TEST_P(CommTest, DuplicateKeepsMessagesApart) {
  if (world().size() == 1) GTEST_SKIP() << "needs two ranks";
  const Comm other = world().duplicate();
  if (world().rank() == 0) {
    SendHandle first = world().isend_bytes(Bytes(1, std::byte{1}), 1, 0);
    SendHandle second = other.isend_bytes(Bytes(1, std::byte{2}), 1, 0);
    first.wait();
    second.wait();
  } else if (world().rank() == 1) {
    EXPECT_EQ(other.receive_bytes(0, 0), Bytes(1, std::byte{2}));
    EXPECT_EQ(world().receive_bytes(0, 0), Bytes(1, std::byte{1}));
  }
}

TEST_P(CommTest, WaitingForATensorOrAMessageBurnsNoCore) {
  if (world().size() == 1) GTEST_SKIP() << "needs two ranks";
  std::vector<float> x(1000);
  world().barrier();
  const std::clock_t before = std::clock();  // processor time of all threads
  if (world().rank() == 0) {
    for (int i = 0; i < 2; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      for (int peer = 1; peer < world().size(); ++peer) {
        i == 0 ? world().send(view(x), peer, {}) : world().send_bytes(as_bytes("go"), peer, 3);
      }
    }
  } else {
    world().recv(view(x), 0, {});
    world().receive_bytes(0, 3);
  }
  EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 0.12);
}

// MPI alone would hand it over when the sender next calls MPI.
TEST_P(CommTest, ALongMessageArrivesWhileItsSenderIsBusyElsewhere) {
  if (world().size() == 1) GTEST_SKIP() << "needs two ranks";
  world().barrier();
  if (world().rank() == 0) {
    SendHandle sent = world().isend_bytes(Bytes(3 << 20, std::byte{7}), 1, 4);
    std::this_thread::sleep_for(std::chrono::seconds(2));
    sent.wait();
  } else if (world().rank() == 1) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(world().receive_bytes(0, 4), Bytes(3 << 20, std::byte{7}));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(1));
  }
}

TEST_P(CommTest, MisuseIsNamed) {
  std::vector<float> values(6);
  const TensorView matrix(values.data(), DType::f32, Device::cpu(), {2, 3});
  EXPECT_THROW(world().send(matrix, world().rank(), {}), ShapeError);
  EXPECT_THROW(world().broadcast(matrix, world().size(), {}), ShapeError);
  EXPECT_THROW(world().all_gather(matrix, matrix.reshape({6}).slice(0, 0, 5), {}), ShapeError);
  if (world().size() > 1) {
    EXPECT_THROW(world().all_reduce_sum(matrix.slice(1, 0, 2), {}), ShapeError);
    const TensorView half(values.data(), DType::bf16, Device::cpu(), {2});
    EXPECT_THROW(world().all_reduce_sum(half, {}), ShapeError);
    const TensorView on_gpu(values.data(), DType::f32, Device::cuda(0), {2});
    EXPECT_THROW(world().all_reduce_sum(on_gpu, {}), ShapeError);
  }
}

TEST(CommOfOneRank, NeedsNoMpiAndDoesNothing) {
  const Comm alone;
  std::vector<float> values = {1, 2, 3};
  alone.all_reduce_sum(view(values), {});
  EXPECT_EQ(values, (std::vector<float>{1, 2, 3}));
  std::vector<float> gathered(3);
  alone.all_gather(view(gathered), view(values), {});
  EXPECT_EQ(gathered, values);
  EXPECT_EQ(alone.duplicate().size(), 1);
  EXPECT_EQ(alone.split(0, 0).size(), 1);
  EXPECT_EQ(as_text(alone.all_gather_bytes(as_bytes("me")).at(0)), "me");
  EXPECT_FALSE(alone.try_receive(Comm::any_rank, 0).has_value());
}

}  // namespace
}  // namespace millrace
