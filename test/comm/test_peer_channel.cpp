// Messages between neighbouring GPUs through mapped memory. Needs a GPU for every rank, and peer
// access between them.
#include <memory>
#include <stdexcept>
#include <vector>

#include "kernels/base/graph.hpp"
#include "test/comm/gpu_ranks.hpp"

namespace millrace {
namespace {

class PeerChannel : public GpuRanks {
 protected:
  static void SetUpTestSuite() {
    if (!have_gpus()) return;
    comm_ = std::make_unique<Comm>(world().duplicate());
    comm_->bind(device(), {.messages = true});
  }
  static void TearDownTestSuite() { comm_.reset(); }
  static const Comm& comm() { return *comm_; }

  static std::vector<std::uint8_t> bytes(std::size_t count, std::size_t seed) {
    std::vector<std::uint8_t> values(count);
    for (std::size_t i = 0; i < count; ++i) {
      values[i] = static_cast<std::uint8_t>((i * 131 + i / 997 + seed * 29) % 251);
    }
    return values;
  }
  static Tensor bytes_on_gpu(const std::vector<std::uint8_t>& values, std::int64_t offset = 0) {
    return on_gpu(DType::u8, values, offset);
  }

 private:
  static inline std::unique_ptr<Comm> comm_;
};

// One byte, odd ends, one part, many parts, several pieces, more pieces than there are slots.
const std::size_t sizes[] = {1,         17,         32'768,     100'003,
                             1'400'000, 16'777'217, 50'000'000, 200'000'001};

TEST_F(PeerChannel, CarriesMessagesOfEverySizeAndAlignmentDownTheChain) {
  for (const std::int64_t offset : {0, 3}) {
    for (const std::size_t size : sizes) {
      const auto count = static_cast<std::int64_t>(size);
      const std::vector<std::uint8_t> expected = bytes(size, 1);
      const Tensor x = bytes_on_gpu(rank() == 0 ? expected : bytes(size, 2), offset);
      const TensorView view = x->slice(0, offset, count);
      if (rank() > 0) comm().recv(view, rank() - 1, stream());
      if (!is_last()) comm().send(view, rank() + 1, stream());
      ASSERT_EQ(on_host<std::uint8_t>(view), expected) << size << " bytes at " << offset;
    }
  }
}

TEST_F(PeerChannel, ASendIsDoneBeforeItsReceiverHasCome) {
  if (ranks() == 1) GTEST_SKIP() << "one rank has nobody to send to";
  constexpr std::size_t messages = 3;
  constexpr std::size_t size = 2'000'000;
  if (!is_last()) {
    for (std::size_t i = 0; i < messages; ++i) {
      // The tensor is overwritten by what comes next on the stream, as activations are.
      const Tensor x = bytes_on_gpu(bytes(size, i));
      comm().send(x, rank() + 1, stream());
      fill_bytes(x->data(), 0, x->bytes(), stream());
      synchronize(stream());  // would wait for ever if the receiver were needed
    }
  }
  world().barrier();
  if (rank() == 0) return;
  for (std::size_t i = 0; i < messages; ++i) {
    const Tensor x(DType::u8, device(), {static_cast<std::int64_t>(size)});
    comm().recv(x, rank() - 1, stream());
    ASSERT_EQ(on_host<std::uint8_t>(x), bytes(size, i)) << "message " << i;
  }
}

TEST_F(PeerChannel, ManyMessagesKeepTheirOrderWhileTheReceiverIsSlow) {
  const Tensor x(DType::i32, device(), {300'000});
  const Tensor seen(DType::i32, device(), {1000});
  for (std::int64_t i = 0; i < 1000; ++i) {
    if (rank() == 0) fill_bytes(x->data(), static_cast<int>(i % 256), x->bytes(), stream());
    if (rank() > 0) comm().recv(x, rank() - 1, stream());
    if (!is_last()) comm().send(x, rank() + 1, stream());
    copy(seen->slice(0, i, 1), x->slice(0, 299'999, 1), stream());
  }
  const std::vector<std::uint8_t> values = on_host<std::uint8_t>(seen);
  for (std::size_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(values[4 * i], i % 256) << "message " << i;
    ASSERT_EQ(values[4 * i + 3], i % 256) << "message " << i;
  }
}

// Activations go down the chain and tokens from its end to its beginning, which takes them later.
TEST_F(PeerChannel, TheLastRankSendsToTheFirst) {
  if (ranks() == 1) GTEST_SKIP() << "one rank has nobody to send to";
  ASSERT_TRUE(comm().buffers_messages());
  constexpr std::size_t messages = 5;
  for (std::size_t i = 0; i < messages; ++i) {
    const Tensor x = bytes_on_gpu(bytes(100'000, i));
    if (rank() > 0) comm().recv(x, rank() - 1, stream());
    if (!is_last()) comm().send(x, rank() + 1, stream());
    if (is_last()) comm().send(bytes_on_gpu(bytes(4096, 10 + i)), 0, stream());
    synchronize(stream());  // would wait for ever if the first rank were needed
  }
  world().barrier();
  if (rank() > 0) return;
  for (std::size_t i = 0; i < messages; ++i) {
    const Tensor x(DType::u8, device(), {4096});
    comm().recv(x, ranks() - 1, stream());
    ASSERT_EQ(on_host<std::uint8_t>(x), bytes(4096, 10 + i)) << "message " << i;
  }
}

TEST_F(PeerChannel, IsRefusedInAGraph) {
  const Tensor x(DType::f32, device(), {64});
  const int next = (rank() + 1) % ranks();
  if (next == rank()) GTEST_SKIP() << "one rank has nobody to send to";
  EXPECT_THROW(Graph::record(stream(), [&] { comm().send(x, next, stream()); }), std::logic_error);
}

}  // namespace
}  // namespace millrace
