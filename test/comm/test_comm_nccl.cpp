// NCCL against MPI: every operation on device memory gives what the host's gives for the same
// values. Needs a GPU for every rank.
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "comm/environment.hpp"

namespace millrace {
namespace {

class NcclTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() < world().size()) {
      GTEST_SKIP() << "skipped: " << cuda_device_count() << " CUDA devices for " << world().size()
                   << " ranks";
    }
  }

  static const Comm& world() {
    static const Environment environment;
    return environment.world();
  }
  static Device device() { return Device::cuda(world().rank()); }
  static Stream stream() {
    static auto* owned = new OwnedStream(device());
    return owned->stream();
  }
  static Comm& bound() {
    static Comm comm = [] {
      Comm made = world().duplicate();
      made.bind(device());
      return made;
    }();
    return comm;
  }

  template <typename T>
  static Tensor on_gpu(DType dtype, const std::vector<T>& values) {
    Tensor tensor(dtype, device(), {static_cast<std::int64_t>(values.size())});
    copy_bytes(tensor->data(), device(), values.data(), Device::cpu(), tensor->bytes(), stream());
    synchronize(stream());
    return tensor;
  }
  template <typename T>
  static std::vector<T> on_host(const TensorView& view) {
    std::vector<T> values(static_cast<std::size_t>(view.numel()));
    copy_bytes(values.data(), Device::cpu(), view.data(), device(), view.bytes(), stream());
    synchronize(stream());
    return values;
  }
  // Whole numbers, so that every order of summation gives the same float.
  static std::vector<float> numbers(std::size_t count, int rank) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>((i * 7 + static_cast<std::size_t>(rank) * 131) % 1009);
    }
    return values;
  }
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

TEST_F(NcclTest, MessagesGoAroundARingAndAlongAChain) {
  const int size = world().size();
  if (size == 1) GTEST_SKIP() << "one rank has nobody to send to";
  const int next = (world().rank() + 1) % size;
  const int previous = (world().rank() + size - 1) % size;
  for (const std::size_t count : sizes) {
    const Tensor out = on_gpu(DType::f32, numbers(count, world().rank()));
    const Tensor in(DType::f32, device(), {static_cast<std::int64_t>(count)});
    bound().send_recv(out, next, in, previous, stream());
    EXPECT_EQ(on_host<float>(in), numbers(count, previous)) << count;
    if (world().rank() > 0) bound().recv(in, previous, stream());
    if (next > 0) bound().send(world().rank() > 0 ? in : out, next, stream());
    EXPECT_EQ(on_host<float>(world().rank() > 0 ? in : out), numbers(count, 0)) << count;
  }
}

TEST_F(NcclTest, PartsOfABoundCommunicatorAreBoundToo) {
  const Comm half = bound().split(world().rank() % 2, world().rank());
  const Tensor x = on_gpu(DType::f32, std::vector<float>{1});
  half.all_reduce_sum(x, stream());
  EXPECT_EQ(on_host<float>(x), std::vector<float>{static_cast<float>(half.size())});
}

}  // namespace
}  // namespace millrace
