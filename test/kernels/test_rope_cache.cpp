#include "kernels/rope_cache.hpp"

#include "test/kernels/random_tensor.hpp"

namespace millrace {
namespace {

// One query head and one KV head of size 4; a table whose position 1 is a quarter turn of the first
// pair and a half turn of the second.
struct SmallCase {
  QkvShape shape{1, 1, 4};
  Tensor rope = floats({2, 4}, {1, 1, 0, 0, 0, -1, 1, 0});
  Tensor k_cache = poisoned(DType::f32, {3, 1, 2, 4});
  Tensor v_cache = poisoned(DType::f32, {3, 1, 2, 4});
};

std::vector<float> at_slot(const TensorView& cache, std::int64_t slot) {
  const float* from = cache.as<float>() + slot * 4;  // one KV head: slots follow each other
  return {from, from + 4};
}

TEST(QkvToCache, RotatesByHandAndWritesTheNamedSlots) {
  const SmallCase c;
  const Tensor qkv = floats({2, 12}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,  //
                                      1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  qkv_to_cache(qkv, c.shape, c.rope, ints({0, 1}), ints({4, 1}), {}, c.k_cache, c.v_cache,
               cpu_stream);
  const std::vector<float> out = to_vector(qkv);
  EXPECT_EQ((std::vector<float>(out.begin(), out.begin() + 4)), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ((std::vector<float>(out.begin() + 12, out.begin() + 16)),
            (std::vector<float>{-3, -2, 1, -4}));
  EXPECT_EQ(at_slot(c.k_cache, 4), (std::vector<float>{5, 6, 7, 8}));
  EXPECT_EQ(at_slot(c.k_cache, 1), (std::vector<float>{-7, -6, 5, -8}));
  EXPECT_EQ(at_slot(c.v_cache, 4), (std::vector<float>{9, 10, 11, 12}));
  EXPECT_EQ(at_slot(c.v_cache, 1), (std::vector<float>{9, 10, 11, 12}));
  for (const std::int64_t slot : {0, 2, 3, 5})
    EXPECT_TRUE(std::isnan(at_slot(c.k_cache, slot)[0])) << slot;
}

TEST(QkvToCache, ANegativeSlotWritesNothingAndNoTableRotatesNothing) {
  const SmallCase c;
  const Tensor qkv = floats({1, 12}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  qkv_to_cache(qkv, c.shape, TensorView(), ints({1}), ints({-1}), {}, c.k_cache, c.v_cache,
               cpu_stream);
  EXPECT_EQ(qkv->as<float>()[0], 1);
  for (std::int64_t slot = 0; slot < 6; ++slot)
    EXPECT_TRUE(std::isnan(at_slot(c.k_cache, slot)[0]));
}

TEST(QkvToCache, ARotaryDimBelowHeadDimLeavesTheRest) {
  const SmallCase c;
  const Tensor rope = floats({2, 2}, {1, 0, 0, 1});
  const Tensor qkv = floats({1, 12}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12});
  qkv_to_cache(qkv, c.shape, rope, ints({1}), ints({0}), {}, c.k_cache, c.v_cache, cpu_stream);
  EXPECT_EQ(at_slot(c.k_cache, 0), (std::vector<float>{-6, 5, 7, 8}));
}

TEST(QkvToCache, NormsEveryHeadBeforeItIsRotated) {
  const SmallCase c;
  const Tensor q_weight = floats({4}, {1, 1, 1, 1});
  const Tensor k_weight = floats({4}, {2, 2, 2, 1});
  // mean(q^2) = 4, mean(k^2) = 16.
  const Tensor qkv = floats({1, 12}, {2, -2, 2, 2, 4, 4, 4, -4, 9, 10, 11, 12});
  qkv_to_cache(qkv, c.shape, c.rope, ints({1}), ints({0}), {q_weight, k_weight, 0, 0}, c.k_cache,
               c.v_cache, cpu_stream);
  const std::vector<float> out = to_vector(qkv);
  EXPECT_EQ((std::vector<float>(out.begin(), out.begin() + 4)), (std::vector<float>{-1, 1, 1, -1}));
  EXPECT_EQ(at_slot(c.k_cache, 0), (std::vector<float>{-2, -2, 2, 1}));
  EXPECT_EQ(at_slot(c.v_cache, 0), (std::vector<float>{9, 10, 11, 12}));
}

TEST(QkvToCache, PlacesEveryHeadOfEveryBlockAndRoundsToTheCachesDType) {
  const QkvShape shape{4, 2, 6};
  const Tensor qkv = random_tensor(DType::f32, {5, shape.width()}, 61, 30);
  const Tensor slots = ints({0, 7, 8, 15, 31});
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::fp8_e4m3}) {
    const Tensor k_cache = poisoned(dtype, {4, 2, 8, 6});
    const Tensor v_cache = poisoned(dtype, {4, 2, 8, 6});
    qkv_to_cache(qkv, shape, TensorView(), ints({0, 1, 2, 3, 4}), slots, {}, k_cache, v_cache,
                 cpu_stream);
    for (std::int64_t t = 0; t < 5; ++t) {
      const std::int64_t slot = slots->as<std::int32_t>()[t];
      for (std::int64_t h = 0; h < 2; ++h) {
        for (std::int64_t i = 0; i < 6; ++i) {
          const std::int64_t at = ((slot / 8 * 2 + h) * 8 + slot % 8) * 6 + i;
          const float k = qkv->as<float>()[t * shape.width() + 24 + h * 6 + i];
          const float v = qkv->as<float>()[t * shape.width() + 36 + h * 6 + i];
          ASSERT_EQ(element(v_cache, at), rounded(v, dtype));
          ASSERT_EQ(element(k_cache, at), rounded(k, dtype));
        }
      }
    }
  }
}

TEST(QkvToCache, AShapeErrorNamesTheTensor) {
  const SmallCase c;
  const Tensor qkv(DType::f32, Device::cpu(), {1, 12});
  const Tensor wide(DType::f32, Device::cpu(), {2, 6});
  const auto run = [&](const TensorView& rope, const TensorView& k) {
    return shape_error([&] {
      qkv_to_cache(qkv, c.shape, rope, ints({1}), ints({0}), {}, k, c.v_cache, cpu_stream);
    });
  };
  EXPECT_EQ(
      run(wide, c.k_cache),
      "qkv_to_cache: rope is float32 [2, 6] on cpu, expected an even rotary_dim up to head_dim 4");
  EXPECT_EQ(run(c.rope, c.k_cache->slice(0, 0, 2)),
            "qkv_to_cache: v_cache is float32 [3, 1, 2, 4] on cpu, expected float32 [2, 1, 2, 4]");
}

}  // namespace
}  // namespace millrace
