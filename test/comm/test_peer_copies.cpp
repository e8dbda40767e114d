// Sums that copy engines carry beside other work, against the same sums made at once: bit for bit,
// in halves, one after the other as a model's layers make them, with ranks that lag behind.
#include "comm/peer_copies.hpp"

#include <chrono>
#include <memory>
#include <stdexcept>
#include <thread>

#include "comm/all_reduce_add_norm.hpp"
#include "comm/split_sum.hpp"
#include "kernels/base/graph.hpp"
#include "test/comm/sum_numbers.hpp"

namespace millrace {
namespace {

using cuda::PeerCopies;
using cuda::PeerMemory;

constexpr std::size_t sum_bytes = 4U << 20U;

class PeerCopied : public GpuRanks {
 protected:
  static void SetUpTestSuite() {
    if (ranks() == 1 || !have_gpus()) return;
    auto memory =
        PeerMemory::map(world(), device(), PeerCopies::bytes(ranks(), sum_bytes), obstacle_);
    if (memory) copies_ = std::make_unique<PeerCopies>(std::move(memory), device(), sum_bytes);
  }
  static void TearDownTestSuite() { copies_.reset(); }
  void SetUp() override {
    GpuRanks::SetUp();
    if (IsSkipped()) return;
    if (ranks() == 1) GTEST_SKIP() << "one rank has nobody to send to";
    ASSERT_NE(copies_, nullptr) << obstacle_;
  }
  static PeerCopies& copies() { return *copies_; }

 private:
  static inline std::unique_ptr<PeerCopies> copies_;
  static inline std::string obstacle_;
};

TEST_F(PeerCopied, SumsOfKnownNumbersAddUp) {
  EXPECT_TRUE(cuda::copies_add_up(copies(), world(), device()));
}

TEST_F(PeerCopied, TwoSumsUnderWayGiveTheBitsOfAdditionInRankOrder) {
  for (const Fp8Scaling scaling : {Fp8Scaling::none, Fp8Scaling::rows, Fp8Scaling::blocks}) {
    for (const std::int64_t hidden : {1152, 4096}) {
      const std::int64_t tokens = 300;
      const Tensor weight = on_gpu(DType::bf16, random_row(hidden, 77));
      NormWeights norm;
      norm.weight = weight;
      for (int turn = 0; turn < 9; ++turn) {
        std::vector<std::vector<float>> parts;
        for (int r = 0; r < ranks(); ++r) {
          parts.push_back(noise(static_cast<std::size_t>(2 * tokens * hidden), r + 10 * turn));
          for (float& value : parts.back()) value = to_float(to_bfloat16(value));
        }
        const std::vector<Bfloat16> before = random_row(2 * tokens * hidden, 100);
        const auto halves = [&](const Tensor& flat, std::int64_t half) {
          return flat->slice(0, half * tokens * hidden, tokens * hidden).reshape({tokens, hidden});
        };
        const Tensor sum = on_gpu(DType::bf16, rounded(sums(parts)));
        const Tensor expected = on_gpu(DType::bf16, before);
        const Tensor x = on_gpu(DType::bf16, rounded(parts[static_cast<std::size_t>(rank())]));
        const Tensor residual = on_gpu(DType::bf16, before);
        if (turn % ranks() == rank()) std::this_thread::sleep_for(std::chrono::milliseconds(3));
        copies().begin(halves(x, 0), stream());
        copies().begin(halves(x, 1), stream());
        for (const std::int64_t half : {0, 1}) {
          const NormOut out(scaling, tokens, hidden, device(), stream());
          const NormOut wanted(scaling, tokens, hidden, device(), stream());
          copies().end_add_norm(out.rows, halves(residual, half), halves(x, half), norm, stream());
          add_norm(wanted.rows, halves(expected, half), halves(sum, half), norm, stream());
          ASSERT_EQ(on_host<std::uint8_t>(out.bytes), on_host<std::uint8_t>(wanted.bytes))
              << hidden << ", turn " << turn << ", half " << half;
        }
        ASSERT_EQ(bits(on_host<Bfloat16>(residual)), bits(on_host<Bfloat16>(expected)));
      }
    }
  }
}

TEST_F(PeerCopied, RefusesAThirdSumAndOneThatIsTooLargeOrInAGraph) {
  const Tensor x(DType::bf16, device(), {64, 256});
  const Tensor large(DType::bf16, device(), {2 * static_cast<std::int64_t>(sum_bytes) / 512, 256});
  EXPECT_TRUE(copies().can_carry(x, stream()));
  EXPECT_FALSE(copies().can_carry(large, stream()));
  EXPECT_THROW(copies().begin(large, stream()), std::logic_error);
  EXPECT_THROW(Graph::record(stream(), [&] { copies().begin(x, stream()); }), std::logic_error);
  fill_bytes(x->data(), 0, x->bytes(), stream());
  copies().begin(x, stream());
  copies().begin(x, stream());
  EXPECT_THROW(copies().begin(x, stream()), std::logic_error);
  const Tensor residual(DType::bf16, device(), {64, 256});
  const Tensor weight(DType::bf16, device(), {256});
  NormWeights norm;
  norm.weight = weight;
  for (int i = 0; i < 2; ++i) copies().end_add_norm(x, residual, x, norm, stream());
  synchronize(stream());
}

// What the engine calls. Where there are more ranks than copies are worth it for, one part.
TEST_F(PeerCopied, LayersOfSumsInPartsAreThoseOfWholeBatches) {
  constexpr std::int64_t tokens = 2300;
  constexpr std::int64_t hidden = 1024;
  constexpr int layers = 20;
  Comm comm = world().duplicate();
  comm.bind(device(),
            {.sums = true,
             .carried_sum_bytes = SumInParts::largest_part_bytes(tokens, hidden * sizeof(float))});
  const auto matrix = [&](int seed) {
    return on_gpu(DType::f32, noise(static_cast<std::size_t>(tokens * hidden), seed));
  };
  const auto as_rows = [&](const Tensor& flat) { return flat->reshape({tokens, hidden}); };
  const Tensor weight = on_gpu(DType::f32, std::vector<float>(hidden, 1.0F));
  NormWeights norm;
  norm.weight = weight;

  // Every layer's update is the norm of the layer before and what the rank adds to it.
  const Tensor own = matrix(rank());
  const auto run = [&](bool in_parts) {
    const Tensor residual = matrix(50);
    const Tensor y = matrix(51);
    const Tensor update = matrix(52);
    SumInParts halves(comm, as_rows(update), stream());
    EXPECT_EQ(halves.parts().size(), ranks() == 2 ? 2U : 1U);
    const std::vector<SumInParts::Rows> whole = {{0, 0, tokens}};
    for (int layer = 0; layer < layers; ++layer) {
      if (layer % ranks() == rank()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      for (const auto& part : in_parts ? halves.parts() : whole) {
        halves.wait_for(part, stream());
        const TensorView out = part.of(as_rows(update));
        copy(out, part.of(as_rows(y)), stream());
        add(out, part.of(as_rows(own)), stream());
        if (in_parts) {
          halves.add(part, part.of(as_rows(y)), part.of(as_rows(residual)), out, norm, stream());
        } else {
          all_reduce_add_norm(comm, as_rows(y), as_rows(residual), out, norm, stream());
        }
      }
    }
    for (const auto& part : halves.parts()) halves.wait_for(part, stream());
    return std::pair(on_host<float>(residual), on_host<float>(y));
  };
  const auto expected = run(false);
  const auto found = run(true);
  EXPECT_EQ(found.first, expected.first);
  EXPECT_EQ(found.second, expected.second);
}

}  // namespace
}  // namespace millrace
