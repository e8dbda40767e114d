// All-reduce by our own kernels against sums made on the host, bit for bit, on every way, alone, in
// graphs, and joined with the norm. Needs a GPU for every rank, and peer access between them.
#include "comm/peer_reduce.hpp"

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "comm/peer_memory.hpp"
#include "kernels/base/graph.hpp"
#include "test/comm/sum_numbers.hpp"

namespace millrace {
namespace {

using cuda::PeerMemory;

constexpr ReduceWay all_ways[] = {ReduceWay::words, ReduceWay::one_shot, ReduceWay::two_shot};

class PeerReduce : public GpuRanks {
 protected:
  static void SetUpTestSuite() {
    if (ranks() == 1 || !have_gpus()) return;
    memory_ = PeerMemory::map(world(), device(), cuda::peer_reduce_bytes(ranks()), obstacle_);
  }
  static void TearDownTestSuite() { memory_.reset(); }
  void SetUp() override {
    GpuRanks::SetUp();
    if (IsSkipped()) return;
    if (ranks() == 1) GTEST_SKIP() << "one rank has nobody to reduce with";
    ASSERT_NE(memory_, nullptr) << obstacle_;
  }
  static const cuda::Peers& peers() { return memory_->peers(); }

 private:
  static inline std::unique_ptr<PeerMemory> memory_;
  static inline std::string obstacle_;
};

// Packs of one thread, of one block, of a last row that is not full, of several pieces.
const std::size_t sizes[] = {4, 20, 1000, 65'540, 262'148, (1U << 20U) + 4, 20'000'004};

TEST_F(PeerReduce, SumsHaveTheBitsOfAdditionInRankOrder) {
  for (const std::size_t size : sizes) {
    std::vector<std::vector<float>> parts;
    for (int rank = 0; rank < ranks(); ++rank) parts.push_back(noise(size, rank));
    const std::vector<float> expected = sums(parts);
    for (const ReduceWay way : all_ways) {
      const Tensor x = on_gpu(DType::f32, parts[static_cast<std::size_t>(rank())]);
      cuda::peer_all_reduce(way, x, ReduceOp::sum, peers(), stream());
      ASSERT_EQ(on_host<float>(x), expected) << to_string(way) << " of " << size;
    }
  }
}

TEST_F(PeerReduce, Bfloat16IsAddedInFloatAndRoundedOnce) {
  for (const ReduceWay way : all_ways) {
    for (const std::size_t size : {8UL, 4096UL, 1'000'008UL}) {
      std::vector<std::vector<float>> parts;
      for (int rank = 0; rank < ranks(); ++rank) {
        parts.push_back(noise(size, rank));
        for (float& value : parts.back()) value = to_float(to_bfloat16(value));
      }
      const Tensor x = on_gpu(DType::bf16, rounded(parts[static_cast<std::size_t>(rank())]));
      cuda::peer_all_reduce(way, x, ReduceOp::sum, peers(), stream());
      ASSERT_EQ(bits(on_host<Bfloat16>(x)), bits(rounded(sums(parts))))
          << to_string(way) << " of " << size;
    }
  }
}

// Every bit pattern may travel, also those that look like a flag.
TEST_F(PeerReduce, WholeNumbersOfAllBitsAreAddedAndCompared) {
  const std::int64_t count = ranks();
  for (const ReduceWay way : all_ways) {
    for (std::int64_t round = 0; round < 40; ++round) {
      std::vector<std::int64_t> mine;
      std::vector<std::int64_t> sum;
      std::vector<std::int64_t> largest;
      for (std::int64_t i = 0; i < 1026; ++i) {
        const std::int64_t base = i % 3 == 0 ? -1 : (i * round) << 32 | round;
        mine.push_back(base - rank());
        sum.push_back(base * count - count * (count - 1) / 2);
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
  for (int rank = 0; rank < ranks(); ++rank) parts.push_back(noise(size, rank));
  const std::vector<float> expected = sums(parts);
  const Tensor source = on_gpu(DType::f32, parts[static_cast<std::size_t>(rank())]);
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
    if (replay % ranks() == rank() && replay % 7 == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    graph.launch(stream());
    if (replay % 20 != 0) continue;
    for (std::size_t i = 0; i < targets.size(); ++i) {
      const std::size_t summed = i % 2 == 0 ? 50'000 : 4000;
      std::vector<float> wanted = parts[static_cast<std::size_t>(rank())];
      std::copy_n(expected.begin(), summed, wanted.begin());
      ASSERT_EQ(on_host<float>(targets[i]), wanted) << "replay " << replay << ", sum " << i;
    }
  }
}

TEST_F(PeerReduce, JoinedWithTheNormItGivesTheBitsOfBothApart) {
  for (const std::int64_t hidden : {1152, 4096, 8192}) {
    const Tensor weight = on_gpu(DType::bf16, random_row(hidden, 77));
    const Tensor bias = on_gpu(DType::bf16, random_row(hidden, 78));
    for (const std::int64_t tokens : {1, 3, 64, 700}) {
      const std::vector<Bfloat16> mine = random_row(tokens * hidden, rank());
      const std::vector<Bfloat16> before = random_row(tokens * hidden, 100);
      const auto as_rows = [&](const Tensor& flat) { return flat->reshape({tokens, hidden}); };
      for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
        for (const Fp8Scaling scaling : {Fp8Scaling::none, Fp8Scaling::rows, Fp8Scaling::blocks}) {
          NormWeights norm;
          norm.kind = kind;
          norm.weight = weight;
          if (kind == NormKind::layer) norm.bias = bias;
          const Tensor x_apart = on_gpu(DType::bf16, mine);
          const Tensor residual_apart = on_gpu(DType::bf16, before);
          const NormOut out_apart(scaling, tokens, hidden, device(), stream());
          cuda::peer_all_reduce(ReduceWay::one_shot, x_apart, ReduceOp::sum, peers(), stream());
          add_norm(out_apart.rows, as_rows(residual_apart), as_rows(x_apart), norm, stream());
          const auto expected = on_host<std::uint8_t>(out_apart.bytes);
          for (const ReduceWay way : all_ways) {
            const Tensor x = on_gpu(DType::bf16, mine);
            const Tensor residual = on_gpu(DType::bf16, before);
            const NormOut out(scaling, tokens, hidden, device(), stream());
            ASSERT_TRUE(
                cuda::peers_can_reduce_add_norm(out.rows, as_rows(residual), as_rows(x), norm));
            cuda::peer_all_reduce_add_norm(way, out.rows, as_rows(residual), as_rows(x), norm,
                                           peers(), stream());
            ASSERT_EQ(bits(on_host<Bfloat16>(residual)), bits(on_host<Bfloat16>(residual_apart)))
                << to_string(way) << " " << tokens << " x " << hidden;
            ASSERT_EQ(on_host<std::uint8_t>(out.bytes), expected)
                << to_string(way) << " " << tokens << " x " << hidden;
          }
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
