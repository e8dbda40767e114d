// Activations from stage to stage, and the joined all-reduce, on every grid of the ranks that CMake
// names.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "comm/all_reduce_add_norm.hpp"
#include "comm/environment.hpp"
#include "comm/grid.hpp"
#include "comm/pipeline_transfer.hpp"

namespace millrace {
namespace {

const Comm& world() {
  static const Environment instance;
  return instance.world();
}

Tensor activations(std::int64_t tokens, std::int64_t hidden, float first) {
  Tensor x(DType::f32, Device::cpu(), {tokens, hidden});
  std::iota(x->as<float>(), x->as<float>() + x->numel(), first);
  return x;
}

TEST(PipelineTransfer, EveryTensorRankOfTheNextStageHasTheWholeActivation) {
  for (int tensor = 1; tensor <= world().size(); ++tensor) {
    if (world().size() % tensor != 0) continue;
    const int stages = world().size() / tensor;
    const Grid grid(world(), {1, stages, tensor});
    const int stage = grid.coordinates().pipeline;
    // Empty, tiny, small, divisible by no grid, and a prefill step.
    for (const auto& [tokens, hidden] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {0, 8}, {1, 1}, {3, 576}, {101, 577}, {512, 576}}) {
      const Tensor x = activations(tokens, hidden, static_cast<float>(stage));
      SendHandle sent;
      if (stage + 1 < stages) sent = send_to_stage(grid, x, stage + 1, {});
      if (stage > 0) {
        const Tensor received(DType::f32, Device::cpu(), {tokens, hidden});
        receive_from_stage(grid, received, stage - 1, {});
        const Tensor expected = activations(tokens, hidden, static_cast<float>(stage - 1));
        for (std::int64_t i = 0; i < x->numel(); ++i) {
          ASSERT_EQ(received->as<float>()[i], expected->as<float>()[i])
              << tokens << " x " << hidden << ", tensor " << tensor;
        }
      }
      sent.wait();
    }
  }
}

TEST(AllReduceAddNorm, EqualsSumThenAddThenNorm) {
  const std::int64_t tokens = 5;
  const std::int64_t hidden = 12;
  const Tensor x = activations(tokens, hidden, static_cast<float>(world().rank()));
  const Tensor residual = activations(tokens, hidden, 0.5F);
  const Tensor out(DType::f32, Device::cpu(), {tokens, hidden});
  std::vector<float> weight(static_cast<std::size_t>(hidden), 2.0F);
  NormWeights weights;
  weights.weight = TensorView(weight.data(), DType::f32, Device::cpu(), {hidden});
  all_reduce_add_norm(world(), out, residual, x, weights, {});
  const int size = world().size();
  for (std::int64_t t = 0; t < tokens; ++t) {
    double squares = 0;
    std::vector<double> row;
    for (std::int64_t i = 0; i < hidden; ++i) {
      const double element = static_cast<double>(t * hidden + i);
      row.push_back(element + 0.5 + size * element + size * (size - 1) / 2.0);
      squares += row.back() * row.back();
    }
    const double scale = 2.0 / std::sqrt(squares / static_cast<double>(hidden) + weights.eps);
    for (std::int64_t i = 0; i < hidden; ++i) {
      const auto at = static_cast<std::size_t>(i);
      EXPECT_FLOAT_EQ(residual->as<float>()[t * hidden + i], static_cast<float>(row[at]));
      EXPECT_NEAR(out->as<float>()[t * hidden + i], row[at] * scale, 1e-5);
    }
  }
}

}  // namespace
}  // namespace millrace
