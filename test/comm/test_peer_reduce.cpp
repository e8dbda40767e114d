// All-reduce by our own kernels against sums made on the host, bit for bit, on every way, alone, in
// graphs, and joined with the norm. Needs a GPU for every rank, and peer access between them.
#include "comm/peer_reduce.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "comm/environment.hpp"
#include "comm/peer_memory.hpp"
#include "kernels/base/graph.hpp"

namespace millrace {
namespace {

using cuda::PeerMemory;

constexpr ReduceWay all_ways[] = {ReduceWay::words, ReduceWay::one_shot, ReduceWay::two_shot};

class PeerReduce : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (world().size() == 1 || cuda_device_count() < world().size()) return;
    memory_ =
        PeerMemory::map(world(), device(), cuda::peer_reduce_bytes(world().size()), obstacle_);
    if (memory_) stream_ = std::make_unique<OwnedStream>(device());
  }
  static void TearDownTestSuite() {
    stream_.reset();
    memory_.reset();
  }
  void SetUp() override {
    if (world().size() == 1) GTEST_SKIP() << "one rank has nobody to reduce with";
    if (cuda_device_count() < world().size()) {
      GTEST_SKIP() << "skipped: " << cuda_device_count() << " CUDA devices for " << world().size()
                   << " ranks";
    }
    ASSERT_NE(memory_, nullptr) << obstacle_;
  }

  static const Comm& world() {
    static const Environment environment;
    return environment.world();
  }
  static Device device() { return Device::cuda(world().rank()); }
  static Stream stream() { return stream_->stream(); }
  static const cuda::Peers& peers() { return memory_->peers(); }

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

  static std::vector<float> noise(std::size_t count, int rank) {
    std::mt19937 random(static_cast<unsigned>(1000 * rank) + static_cast<unsigned>(count));
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
  }
  // Sums in rank order, in f32.
  static std::vector<float> sums(const std::vector<std::vector<float>>& of_ranks) {
    std::vector<float> sum = of_ranks.front();
    for (std::size_t rank = 1; rank < of_ranks.size(); ++rank) {
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += of_ranks[rank][i];
    }
    return sum;
  }
  static std::vector<Bfloat16> rounded(const std::vector<float>& values) {
    std::vector<Bfloat16> result;
    for (const float value : values) result.push_back(to_bfloat16(value));
    return result;
  }
  static std::vector<std::uint16_t> bits(const std::vector<Bfloat16>& values) {
    std::vector<std::uint16_t> result;
    for (const Bfloat16 value : values) result.push_back(value.bits);
    return result;
  }

 private:
  static inline std::unique_ptr<PeerMemory> memory_;
  static inline std::unique_ptr<OwnedStream> stream_;
  static inline std::string obstacle_;
};

// Packs of one thread, of one block, of a last row that is not full, of several pieces.
const std::size_t sizes[] = {4, 20, 1000, 65'540, 262'148, (1U << 20U) + 4, 20'000'004};

TEST_F(PeerReduce, SumsHaveTheBitsOfAdditionInRankOrder) {
  for (const ReduceWay way : all_ways) {
    for (const std::size_t size : sizes) {
      std::vector<std::vector<float>> parts;
      for (int rank = 0; rank < world().size(); ++rank) parts.push_back(noise(size, rank));
      const Tensor x = on_gpu(DType::f32, parts[static_cast<std::size_t>(world().rank())]);
      cuda::peer_all_reduce(way, x, ReduceOp::sum, peers(), stream());
      ASSERT_EQ(on_host<float>(x), sums(parts)) << to_string(way) << " of " << size;
    }
  }
}

TEST_F(PeerReduce, Bfloat16IsAddedInFloatAndRoundedOnce) {
  for (const ReduceWay way : all_ways) {
    for (const std::size_t size : {8UL, 4096UL, 1'000'008UL}) {
      std::vector<std::vector<float>> parts;
      for (int rank = 0; rank < world().size(); ++rank) {
        parts.push_back(noise(size, rank));
        for (float& value : parts.back()) value = to_float(to_bfloat16(value));
      }
      const Tensor x =
          on_gpu(DType::bf16, rounded(parts[static_cast<std::size_t>(world().rank())]));
      cuda::peer_all_reduce(way, x, ReduceOp::sum, peers(), stream());
      ASSERT_EQ(bits(on_host<Bfloat16>(x)), bits(rounded(sums(parts))))
          << to_string(way) << " of " << size;
    }
  }
}

// Every bit pattern may travel, also those that look like a flag.
TEST_F(PeerReduce, WholeNumbersOfAllBitsAreAddedAndCompared) {
  const std::int64_t ranks = world().size();
  for (const ReduceWay way : all_ways) {
    for (std::int64_t round = 0; round < 40; ++round) {
      std::vector<std::int64_t> mine;
      std::vector<std::int64_t> sum;
      std::vector<std::int64_t> largest;
      for (std::int64_t i = 0; i < 1026; ++i) {
        const std::int64_t base = i % 3 == 0 ? -1 : (i * round) << 32 | round;
        mine.push_back(base - world().rank());
        sum.push_back(base * ranks - ranks * (ranks - 1) / 2);
        largest.push_back(base);
      }
      const Tensor x = on_gpu(DType::i64, mine);
      cuda::peer_all_reduce(way, x, ReduceOp::sum, peers(), stream());
      ASSERT_EQ(on_host<std::int64_t>(x), sum) << to_string(way);
      const Tensor y = on_gpu(DType::i64, mine);
      cuda::peer_all_reduce(way, y, ReduceOp::max, peers(), stream());
      ASSERT_EQ(on_host<std::int64_t>(y), largest) << to_string(way);
    }
  }
}

TEST_F(PeerReduce, AGraphOfSumsMayBeReplayedWhileRanksLagBehindEachOther) {
  const std::size_t size = 50'000;
  std::vector<std::vector<float>> parts;
  for (int rank = 0; rank < world().size(); ++rank) parts.push_back(noise(size, rank));
  const std::vector<float> expected = sums(parts);
  const Tensor source = on_gpu(DType::f32, parts[static_cast<std::size_t>(world().rank())]);
  std::vector<Tensor> targets;
  for (int i = 0; i < 5; ++i) {
    targets.emplace_back(DType::f32, device(),
                         std::initializer_list<std::int64_t>{static_cast<std::int64_t>(size)});
  }
  const Graph graph = Graph::record(stream(), [&] {
    for (std::size_t i = 0; i < targets.size(); ++i) {
      copy(targets[i], source, stream());
      // Sizes change from call to call, so that rows of one lie where flags of another were not.
      const TensorView x = targets[i]->slice(0, 0, i % 2 == 0 ? 50'000 : 4000);
      cuda::peer_all_reduce(all_ways[i % 3], x, ReduceOp::sum, peers(), stream());
    }
  });
  for (int replay = 0; replay < 200; ++replay) {
    if (replay % world().size() == world().rank() && replay % 7 == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    graph.launch(stream());
    if (replay % 20 != 0) continue;
    for (std::size_t i = 0; i < targets.size(); ++i) {
      const std::size_t summed = i % 2 == 0 ? 50'000 : 4000;
      std::vector<float> wanted = parts[static_cast<std::size_t>(world().rank())];
      std::copy_n(expected.begin(), summed, wanted.begin());
      ASSERT_EQ(on_host<float>(targets[i]), wanted) << "replay " << replay << ", sum " << i;
    }
  }
}

TEST_F(PeerReduce, JoinedWithTheNormItGivesTheBitsOfBothApart) {
  const auto random_row = [](std::int64_t count, int seed) {
    return rounded(noise(static_cast<std::size_t>(count), seed));
  };
  for (const std::int64_t hidden : {1152, 4096, 8192}) {
    const Tensor weight = on_gpu(DType::bf16, random_row(hidden, 77));
    const Tensor bias = on_gpu(DType::bf16, random_row(hidden, 78));
    for (const std::int64_t tokens : {1, 3, 64, 700}) {
      const std::vector<Bfloat16> mine = random_row(tokens * hidden, world().rank());
      const std::vector<Bfloat16> before = random_row(tokens * hidden, 100);
      const auto as_rows = [&](const Tensor& flat) { return flat->reshape({tokens, hidden}); };
      for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
        NormWeights norm;
        norm.kind = kind;
        norm.weight = weight;
        if (kind == NormKind::layer) norm.bias = bias;
        const Tensor x_apart = on_gpu(DType::bf16, mine);
        const Tensor residual_apart = on_gpu(DType::bf16, before);
        const Tensor out_apart = on_gpu(DType::bf16, before);
        cuda::peer_all_reduce(ReduceWay::one_shot, x_apart, ReduceOp::sum, peers(), stream());
        add_norm(as_rows(out_apart), as_rows(residual_apart), as_rows(x_apart), norm, stream());
        for (const ReduceWay way : all_ways) {
          const Tensor x = on_gpu(DType::bf16, mine);
          const Tensor residual = on_gpu(DType::bf16, before);
          const Tensor out = on_gpu(DType::bf16, mine);
          ASSERT_TRUE(
              cuda::peers_can_reduce_add_norm(as_rows(out), as_rows(residual), as_rows(x), norm));
          cuda::peer_all_reduce_add_norm(way, as_rows(out), as_rows(residual), as_rows(x), norm,
                                         peers(), stream());
          ASSERT_EQ(bits(on_host<Bfloat16>(residual)), bits(on_host<Bfloat16>(residual_apart)))
              << to_string(way) << " " << tokens << " x " << hidden;
          ASSERT_EQ(bits(on_host<Bfloat16>(out)), bits(on_host<Bfloat16>(out_apart)))
              << to_string(way) << " " << tokens << " x " << hidden;
        }
      }
    }
  }
}

TEST_F(PeerReduce, WhatIsNotWholePacksIsLeftToNccl) {
  const Tensor x(DType::f32, device(), {64});
  EXPECT_TRUE(cuda::peers_can_reduce(x, ReduceOp::sum));
  EXPECT_FALSE(cuda::peers_can_reduce(x->slice(0, 0, 63), ReduceOp::sum));
  EXPECT_FALSE(cuda::peers_can_reduce(x->slice(0, 1, 60), ReduceOp::sum));
  EXPECT_FALSE(cuda::peers_can_reduce(x, ReduceOp::min));
}

}  // namespace
}  // namespace millrace
