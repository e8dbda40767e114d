// Products on the GPU against the CPU's three loops.
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "kernels/activation.hpp"
#include "kernels/base/device_facts.hpp"
#include "kernels/base/graph.hpp"
#include "kernels/linear.hpp"
#include "kernels/linear_stream.hpp"
#include "kernels/linear_tuning.hpp"
#include "kernels/norm.hpp"
#include "test/kernels/gpu/gpu_test.hpp"

namespace millrace {
namespace {

using LinearOnGpu = OnGpu;

// Products of f32 must be f32 products: tf32 would be off by 1e-3.
TEST_F(LinearOnGpu, AgreesWithThePlainCpuProductAtOddSizes) {
  const std::int64_t sizes[][3] = {{1, 1, 1},     {1, 576, 1536},  {2, 33, 7},     {5, 960, 576},
                                   {17, 64, 255}, {64, 1536, 576}, {100, 130, 96}, {300, 257, 129}};
  for (const DType dtype : float_types) {
    for (const auto& [m, n, k] : sizes) {
      const Tensor x = random_tensor(dtype, {m, k}, 1);
      const Tensor w = random_tensor(dtype, {n, k}, 2);
      const Tensor bias = random_tensor(dtype, {n}, 3);
      const LinearWeight wide = pack_linear(widened_tensor(w), Device::cpu(), cpu_stream);
      const LinearWeight packed = pack_linear(w, stream().device, stream());
      const Tensor gpu_x = to_gpu(x, stream());
      const Tensor gpu_bias = to_gpu(bias, stream());
      const Tensor wide_bias = widened_tensor(bias);
      for (const DType out_dtype : {dtype, DType::f32}) {
        for (const bool with_bias : {false, true}) {
          for (const bool accumulate : {false, true}) {
            const Tensor before = random_tensor(out_dtype, {m, n}, 4);
            const Tensor expected =
                accumulate ? widened_tensor(before) : poisoned(DType::f32, {m, n});
            cpu::linear_plain(expected, widened_tensor(x), wide,
                              with_bias ? wide_bias.view() : TensorView(), accumulate, cpu_stream);
            const Tensor out = accumulate ? to_gpu(before, stream())
                                          : poisoned_on_gpu(out_dtype, {m, n}, stream());
            linear(out, gpu_x, packed, with_bias ? gpu_bias.view() : TensorView(), accumulate,
                   stream());
            const float size = std::sqrt(static_cast<float>(k));
            // cuBLASLt may round the product once more before it is added to what was there.
            const float units = out_dtype == DType::f32 ? 256 : 2.2F;
            EXPECT_TRUE(near_oracle(out, expected, units, size, stream()))
                << name(dtype) << " to " << name(out_dtype) << " " << m << " x " << n << " x " << k;
          }
        }
      }
    }
  }
}

TEST_F(LinearOnGpu, RowsMayBeStrided) {
  const Tensor x = random_tensor(DType::bf16, {9, 300}, 1);
  const Tensor w = random_tensor(DType::bf16, {48, 64}, 2);
  const LinearWeight wide = pack_linear(widened_tensor(w), Device::cpu(), cpu_stream);
  const LinearWeight packed = pack_linear(w, stream().device, stream());
  const Tensor gpu_x = to_gpu(x, stream());
  const Tensor wide_x = widened_tensor(x);
  for (const std::int64_t begin : {0, 8, 5}) {
    const Tensor expected = poisoned(DType::f32, {9, 48});
    cpu::linear_plain(expected, wide_x->slice(1, begin, 64), wide, TensorView(), false, cpu_stream);
    const Tensor out = poisoned_on_gpu(DType::bf16, {9, 100}, stream());
    linear(out->slice(1, 16, 48), gpu_x->slice(1, begin, 64), packed, TensorView(), false,
           stream());
    EXPECT_TRUE(near_oracle(out->slice(1, 16, 48), expected, 1.2F, 8, stream())) << begin;
  }
}

TEST_F(LinearOnGpu, MeasuredPlansSurviveTheFileAndGiveTheSameProduct) {
  const Tensor w = random_tensor(DType::bf16, {256, 512}, 1);
  const Tensor x = random_tensor(DType::bf16, {24, 512}, 2);
  const LinearWeight packed = pack_linear(w, stream().device, stream());
  EXPECT_EQ(tune_linear(packed, DType::bf16, false, false, {1, 24}, stream()), 2);
  EXPECT_EQ(tune_linear(packed, DType::bf16, false, false, {1, 20}, stream()), 0);
  const Tensor expected = poisoned(DType::f32, {24, 256});
  cpu::linear_plain(expected, widened_tensor(x),
                    pack_linear(widened_tensor(w), Device::cpu(), cpu_stream), TensorView(), false,
                    cpu_stream);
  const Tensor out = poisoned_on_gpu(DType::bf16, {24, 256}, stream());
  linear(out, to_gpu(x, stream()), packed, TensorView(), false, stream());
  EXPECT_TRUE(near_oracle(out, expected, 1.2F, 22, stream()));

  const std::string path = testing::TempDir() + "millrace_linear_plans";
  write_linear_plans(path, stream().device);
  const auto bytes = std::filesystem::file_size(path);
  EXPECT_GT(bytes, 120U);  // a signature and at least two plans
  read_linear_plans(path, stream().device);
  write_linear_plans(path, stream().device);
  EXPECT_EQ(std::filesystem::file_size(path), bytes);
  std::remove(path.c_str());
  EXPECT_THROW(write_linear_plans("/nowhere/plans", stream().device), UserError);
}

cuda::StreamedProduct streamed(const TensorView& out, const TensorView& x, const LinearWeight& w,
                               const TensorView& bias) {
  return {
      x.size(0),      w.n,         w.k,           x.dtype(),   out.dtype(), out.data(), x.data(),
      w.data->data(), bias.data(), out.stride(0), x.stride(0), nullptr,     nullptr};
}

bool same_bytes(const TensorView& a, const TensorView& b, Stream stream) {
  const Tensor left = to_host(a, stream);
  const Tensor right = to_host(b, stream);
  return left->bytes() == right->bytes() &&
         std::memcmp(left->data(), right->data(), left->bytes()) == 0;
}

// One tile and many a block, tiles of 8 to 64 rows, ragged edges in all three sizes.
TEST_F(LinearOnGpu, StreamedProductsAgreeWithTheCpuAndWithThemselves) {
  if (device_facts(stream().device).compute_capability != 90) {
    GTEST_SKIP() << "skipped: no Hopper GPU";
  }
  const std::int64_t shapes[][2] = {{8, 8},      {8, 4096},   {136, 72},   {576, 1536},
                                    {264, 1000}, {2504, 192}, {9000, 136}, {20008, 64}};
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const auto& [n, k] : shapes) {
      const Tensor w = random_tensor(dtype, {n, k}, 2);
      const LinearWeight wide = pack_linear(widened_tensor(w), Device::cpu(), cpu_stream);
      const LinearWeight packed = pack_linear(w, stream().device, stream());
      const Tensor bias = random_tensor(dtype, {n}, 3);
      const Tensor wide_bias = widened_tensor(bias);
      const Tensor gpu_bias = to_gpu(bias, stream());
      for (const std::int64_t m : {1, 3, 16, 17, 31, 32, 33, 63, 64}) {
        const Tensor x = random_tensor(dtype, {m, k}, 1);
        const Tensor gpu_x = to_gpu(x, stream());
        for (const bool with_bias : {false, true}) {
          const Tensor expected = poisoned(DType::f32, {m, n});
          cpu::linear(expected, widened_tensor(x), wide,
                      with_bias ? wide_bias.view() : TensorView(), false, cpu_stream);
          const TensorView added = with_bias ? gpu_bias.view() : TensorView();
          for (const DType out_dtype : {dtype, DType::f32}) {
            const Tensor out = poisoned_on_gpu(out_dtype, {m + 1, n}, stream());
            const TensorView rows = out->slice(0, 0, m);
            ASSERT_TRUE(cuda::streamed_product(streamed(rows, gpu_x, packed, added), stream()));
            const float units = out_dtype == DType::f32 ? 256 : 1.2F;
            const float size = std::sqrt(static_cast<float>(k));
            ASSERT_TRUE(near_oracle(rows, expected, units, size, stream()))
                << m << " x " << n << " x " << k;
            const Tensor behind = poisoned_on_gpu(out_dtype, {1, n}, stream());
            ASSERT_TRUE(same_bytes(out->slice(0, m, 1), behind, stream())) << "row behind the last";
            const Tensor again = poisoned_on_gpu(out_dtype, {m, n}, stream());
            cuda::streamed_product(streamed(again, gpu_x, packed, added), stream());
            ASSERT_TRUE(same_bytes(again, rows, stream())) << m << " x " << n << " x " << k;
          }
        }
      }
    }
  }
}

TEST_F(LinearOnGpu, StreamedRowsMayBeStridedAndOtherLayoutsAreRefused) {
  if (device_facts(stream().device).compute_capability != 90)
    GTEST_SKIP() << "skipped: no Hopper GPU";
  const Tensor x = random_tensor(DType::bf16, {9, 304}, 1);
  const Tensor w = random_tensor(DType::bf16, {48, 64}, 2);
  const LinearWeight wide = pack_linear(widened_tensor(w), Device::cpu(), cpu_stream);
  const LinearWeight packed = pack_linear(w, stream().device, stream());
  const Tensor gpu_x = to_gpu(x, stream());
  const Tensor expected = poisoned(DType::f32, {9, 48});
  cpu::linear_plain(expected, widened_tensor(x)->slice(1, 8, 64), wide, TensorView(), false,
                    cpu_stream);
  const Tensor out = poisoned_on_gpu(DType::bf16, {9, 104}, stream());
  const TensorView inside = out->slice(1, 16, 48);
  ASSERT_TRUE(
      cuda::streamed_product(streamed(inside, gpu_x->slice(1, 8, 64), packed, {}), stream()));
  EXPECT_TRUE(near_oracle(inside, expected, 1.2F, 8, stream()));
  const Tensor untouched = poisoned_on_gpu(DType::bf16, {9, 16}, stream());
  EXPECT_TRUE(same_bytes(out->slice(1, 0, 16), untouched, stream()));
  EXPECT_TRUE(same_bytes(out->slice(1, 64, 16), untouched, stream()));
  EXPECT_FALSE(
      cuda::streamed_product(streamed(inside, gpu_x->slice(1, 5, 64), packed, {}), stream()));
  EXPECT_FALSE(cuda::streamed_product(
      streamed(out->slice(1, 12, 48), gpu_x->slice(1, 8, 64), packed, {}), stream()));
}

// Everything starts early here: a missing wait shows as other bits than op by op.
TEST_F(LinearOnGpu, ChainsOfEarlyStartedOpsGiveTheSameBitsInAGraphAsOneByOne) {
  if (device_facts(stream().device).compute_capability != 90)
    GTEST_SKIP() << "skipped: no Hopper GPU";
  constexpr std::int64_t hidden = 1024;
  constexpr std::int64_t inner = 4096;
  const LinearWeight up =
      pack_linear(random_tensor(DType::bf16, {2 * inner, hidden}, 1), stream().device, stream());
  const LinearWeight down =
      pack_linear(random_tensor(DType::bf16, {hidden, inner}, 2), stream().device, stream());
  const Tensor weight = to_gpu(random_tensor(DType::bf16, {hidden}, 3), stream());
  const NormWeights norm_weights{NormKind::rms, weight, {}, 1e-5F, 0};
  for (const std::int64_t m : {1, 16, 17, 64}) {
    const Tensor x = poisoned_on_gpu(DType::bf16, {m, hidden}, stream());
    const Tensor update = poisoned_on_gpu(DType::bf16, {m, hidden}, stream());
    const Tensor normed = poisoned_on_gpu(DType::bf16, {m, hidden}, stream());
    const Tensor wide = poisoned_on_gpu(DType::bf16, {m, 2 * inner}, stream());
    const Tensor activated = poisoned_on_gpu(DType::bf16, {m, inner}, stream());
    const Tensor source = to_gpu(random_tensor(DType::bf16, {m, hidden}, 4), stream());
    const auto chain = [&](const auto& between) {
      copy(x, source, stream());
      copy(update, source, stream());
      for (int layer = 0; layer < 4; ++layer) {
        add_norm(normed, x, update, norm_weights, stream());
        between();
        ASSERT_TRUE(cuda::streamed_product(streamed(wide, normed, up, {}), stream()));
        between();
        gated_activation(activated, wide, Activation::silu, stream());
        between();
        ASSERT_TRUE(cuda::streamed_product(streamed(update, activated, down, {}), stream()));
        between();
      }
    };
    chain([&] { synchronize(stream()); });
    const Tensor expected = to_host(update, stream());
    const Graph graph = Graph::record(stream(), [&] { chain([] {}); });
    for (int replay = 0; replay < 20; ++replay) {
      fill_bytes(update->data(), 0xff, update->bytes(), stream());
      graph.launch(stream());
      const Tensor got = to_host(update, stream());
      ASSERT_EQ(std::memcmp(got->data(), expected->data(), got->bytes()), 0)
          << m << " rows, replay " << replay;
    }
  }
}

}  // namespace
}  // namespace millrace
