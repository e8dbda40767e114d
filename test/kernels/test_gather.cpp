#include "kernels/gather.hpp"

#include "test/kernels/random_tensor.hpp"

namespace millrace {
namespace {

TEST(GatherRows, TakesRowsInTheOrderAsked) {
  const Tensor wide = floats({3, 3}, {1, 2, -1, 3, 4, -1, 5, 6, -1});
  const Tensor out = poisoned(DType::f32, {4, 2});
  gather_rows(out, wide->slice(1, 0, 2), ints({2, 0, 2, 1}), cpu_stream);
  EXPECT_EQ(to_vector(out), (std::vector<float>{5, 6, 1, 2, 5, 6, 3, 4}));
}

TEST(FeedTokens, ReplacesOnlyWhatHasASource) {
  const Tensor ids = ints({10, 11, 12, 13});
  feed_tokens(ids, ints({70, 71}), ints({-1, 1, -1, 0}), cpu_stream);
  EXPECT_EQ((std::vector<std::int32_t>(ids->as<std::int32_t>(), ids->as<std::int32_t>() + 4)),
            (std::vector<std::int32_t>{10, 71, 12, 70}));
}

TEST(GatherRows, AShapeErrorNamesTheTensor) {
  const Tensor x(DType::f32, Device::cpu(), {3, 3});
  EXPECT_EQ(shape_error([&] {
              gather_rows(x, x, ints({1, 2}), cpu_stream);
            }),
            "gather_rows: out is float32 [3, 3] on cpu, expected float32 [2, 3]");
}

}  // namespace
}  // namespace millrace
