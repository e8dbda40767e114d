// Products on the GPU against the CPU's three loops.
#include <cstdio>
#include <filesystem>

#include "kernels/linear.hpp"
#include "kernels/linear_tuning.hpp"
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
  EXPECT_GT(bytes, 200U);  // a signature and at least two plans
  read_linear_plans(path, stream().device);
  write_linear_plans(path, stream().device);
  EXPECT_EQ(std::filesystem::file_size(path), bytes);
  std::remove(path.c_str());
  EXPECT_THROW(write_linear_plans("/nowhere/plans", stream().device), UserError);
}

}  // namespace
}  // namespace millrace
