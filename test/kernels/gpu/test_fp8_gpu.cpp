// fp8 on the GPU: quantized rows bit for bit, fused forms and products within what rounding
// explains.
#include "kernels/activation.hpp"
#include "kernels/linear.hpp"
#include "kernels/linear_stream.hpp"
#include "kernels/linear_tuning.hpp"
#include "kernels/norm.hpp"
#include "test/kernels/gpu/gpu_test.hpp"
#include "test/kernels/quantized_tensor.hpp"

namespace millrace {
namespace {

// Products need a tensor core that this project's library drives with scales of rows and blocks.
class Fp8OnGpu : public OnGpu {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (IsSkipped()) return;
    try {
      (void)random_fp8_weight(8, 16, Fp8Scaling::rows, 1).packed(stream().device, stream());
    } catch (const UserError& error) {
      GTEST_SKIP() << "skipped: " << error.what();
    }
  }

  static QuantizedTensor on_gpu(const QuantizedTensor& rows) {
    return {to_gpu(rows.memory, stream()), to_gpu(rows.scales, stream()), rows.rows};
  }
};

QuantizedTensor to_host(const QuantizedTensor& rows, Stream stream) {
  QuantizedTensor host =
      poisoned_quantized(rows.rows, rows.memory->size(1), rows.view().scaling(), Device::cpu());
  contiguous_copy(host.memory, rows.memory, stream);
  contiguous_copy(host.scales, rows.scales, stream);
  return host;
}

bool same_bytes(const TensorView& a, const TensorView& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

TEST_F(Fp8OnGpu, RowsAreQuantizedToTheBitsOfTheCpu) {
  for (const DType dtype : float_types) {
    for (const Fp8Scaling scaling : {Fp8Scaling::rows, Fp8Scaling::blocks}) {
      for (const std::int64_t columns : {1, 7, 64, 130, 576, 1000, 4096, 14336, 28672, 40000}) {
        for (const float fixed : {0.0F, 0.02F}) {
          const Tensor x = random_tensor(dtype, {5, columns}, 1);
          const QuantizedTensor expected = poisoned_quantized(5, columns, scaling, Device::cpu());
          quantize(expected.view(fixed), x, cpu_stream);
          const QuantizedTensor out = poisoned_quantized(5, columns, scaling, stream().device);
          quantize(out.view(fixed), to_gpu(x, stream()), stream());
          const QuantizedTensor got = to_host(out, stream());
          EXPECT_TRUE(same_bytes(got.values(), expected.values())) << name(dtype) << " " << columns;
          EXPECT_TRUE(same_bytes(got.scales, expected.scales)) << name(dtype) << " " << columns;
        }
      }
    }
  }
}

TEST_F(Fp8OnGpu, QuantizesStridedRowsZerosAndNaN) {
  for (const std::int64_t columns : {256, 14336}) {  // of one block, and of a cluster
    const std::int64_t stride = columns + 144;
    const Tensor x = random_tensor(DType::bf16, {3, stride}, 1);
    const TensorView part = x->slice(1, 8, columns);
    std::fill_n(x->as<Bfloat16>(), stride, Bfloat16{});
    x->as<Bfloat16>()[stride + 20] = to_bfloat16(NAN);
    const Tensor gpu_x = to_gpu(x, stream());
    const QuantizedTensor expected =
        poisoned_quantized(3, columns, Fp8Scaling::rows, Device::cpu());
    quantize(expected.view(), part, cpu_stream);
    const QuantizedTensor out = poisoned_quantized(3, columns, Fp8Scaling::rows, stream().device);
    quantize(out.view(), gpu_x->slice(1, 8, columns), stream());
    const QuantizedTensor got = to_host(out, stream());
    for (const std::int64_t row : {0, 2}) {
      EXPECT_EQ(std::memcmp(got.values().as<Fp8E4m3>() + row * columns,
                            expected.values().as<Fp8E4m3>() + row * columns,
                            static_cast<std::size_t>(columns)),
                0);
      EXPECT_EQ(got.scales->as<float>()[row], expected.scales->as<float>()[row]);
    }
    EXPECT_TRUE(std::isnan(got.scales->as<float>()[1]));
  }
}

// Every value is the f32 oracle's within half a step of its scale, and some for the op's own
// rounding.
void expect_near(const QuantizedTensor& result, const Tensor& oracle, Stream stream) {
  const QuantizedTensor got = to_host(result, stream);
  const std::int64_t m = oracle->size(0);
  const std::int64_t k = oracle->size(1);
  const bool rows = result.scales->rank() == 1;
  std::int64_t wrong = 0;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t c = 0; c < k; ++c) {
      const float scale = got.scales->as<float>()[rows ? i : c / scale_block * whole_groups(m) + i];
      const float want = oracle->as<float>()[i * k + c];
      const float value = element(got.values(), i * k + c) * scale;
      const float allowed = std::fabs(want) * 0x1p-4F * 1.01F + scale * (0x1p-10F + 1e-2F);
      if (!(std::fabs(value - want) <= allowed)) ++wrong;
    }
  }
  EXPECT_EQ(wrong, 0) << m << " x " << k;
  // The largest of each row is 448 of its scales, but for the op's rounding.
  for (std::int64_t i = 0; rows && i < m; ++i) {
    float largest = 0;
    for (std::int64_t c = 0; c < k; ++c) {
      largest = std::max(largest, std::fabs(oracle->as<float>()[i * k + c]));
    }
    EXPECT_NEAR(got.scales->as<float>()[i] * 448 / largest, 1, 1e-3F);
  }
}

TEST_F(Fp8OnGpu, NormsAreQuantizedInTheSamePass) {
  for (const DType dtype : float_types) {
    for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
      for (const Fp8Scaling scaling : {Fp8Scaling::rows, Fp8Scaling::blocks}) {
        for (const std::int64_t hidden : {7, 64, 576, 1000, 4096, 16384, 40000}) {
          const Tensor x = random_tensor(dtype, {5, hidden}, 1);
          const Tensor residual = random_tensor(dtype, {5, hidden}, 2);
          const Tensor weight = random_tensor(dtype, {hidden}, 3);
          const Tensor gpu_x = to_gpu(x, stream());
          const Tensor gpu_residual = to_gpu(residual, stream());
          const Tensor gpu_weight = to_gpu(weight, stream());
          const NormWeights weights{kind, gpu_weight, TensorView(), 1e-5F, 1};
          const Tensor wide_weight = widened_tensor(weight);
          const NormWeights wide{kind, wide_weight, TensorView(), 1e-5F, 1};
          const Tensor expected = poisoned(DType::f32, {5, hidden});
          norm(expected, widened_tensor(x), wide, cpu_stream);
          const QuantizedTensor out = poisoned_quantized(5, hidden, scaling, stream().device);
          norm(out.view(), gpu_x, weights, stream());
          expect_near(out, expected, stream());

          const Tensor summed = to_gpu(residual, stream());
          add(summed, gpu_x, stream());
          const QuantizedTensor after_sum = poisoned_quantized(5, hidden, scaling, stream().device);
          add_norm(after_sum.view(), gpu_residual, gpu_x, weights, stream());
          EXPECT_TRUE(same_bytes(to_host(gpu_residual.view(), stream()).view(),
                                 to_host(summed.view(), stream()).view()));
          const Tensor flat = to_host(summed.view(), stream());
          const Tensor sum(DType::f32, Device::cpu(), {5, hidden});
          const std::vector<float> sums = widened(flat);
          std::copy(sums.begin(), sums.end(), sum->as<float>());
          norm(expected, sum, wide, cpu_stream);
          expect_near(after_sum, expected, stream());
        }
      }
    }
  }
}

TEST_F(Fp8OnGpu, ActivationsAreQuantizedInTheSamePass) {
  for (const DType dtype : float_types) {
    for (const Fp8Scaling scaling : {Fp8Scaling::rows, Fp8Scaling::blocks}) {
      for (const std::int64_t n : {7, 64, 576, 1000, 14336, 28672, 40000}) {
        const Tensor x = random_tensor(dtype, {3, 2 * n}, 1);
        const Tensor gpu_x = to_gpu(x, stream());
        const Tensor wide = widened_tensor(x);
        const Tensor expected = poisoned(DType::f32, {3, n});
        for (const Activation kind : {Activation::silu, Activation::gelu_tanh, Activation::gelu_erf,
                                      Activation::relu, Activation::quick_gelu}) {
          gated_activation(expected, wide, kind, cpu_stream);
          const QuantizedTensor gated = poisoned_quantized(3, n, scaling, stream().device);
          gated_activation(gated.view(), gpu_x, kind, stream());
          expect_near(gated, expected, stream());
          activation(expected, wide->slice(1, 0, n), kind, cpu_stream);
          const QuantizedTensor simple = poisoned_quantized(3, n, scaling, stream().device);
          activation(simple.view(), gpu_x->slice(1, 0, n), kind, stream());
          expect_near(simple, expected, stream());
        }
      }
    }
  }
}

TEST_F(Fp8OnGpu, ProductsAgreeWithThePlainCpuProductAtOddSizes) {
  const std::int64_t sizes[][3] = {{1, 8, 16},     {1, 576, 1536},  {2, 40, 48},
                                   {3, 128, 640},  {17, 264, 256},  {64, 1536, 576},
                                   {100, 136, 96}, {300, 264, 1152}};
  for (const Fp8Scaling scaling : {Fp8Scaling::rows, Fp8Scaling::blocks}) {
    for (const auto& [m, n, k] : sizes) {
      if (scaling == Fp8Scaling::blocks && k % scale_block != 0) continue;
      const QuantizedTensor x = random_quantized(m, k, scaling, 1);
      const Fp8Weight weight = random_fp8_weight(n, k, scaling, 2);
      const LinearWeight oracle = weight.packed(Device::cpu(), cpu_stream);
      const LinearWeight packed = weight.packed(stream().device, stream());
      const QuantizedTensor gpu_x = on_gpu(x);
      for (const DType out_dtype : float_types) {
        const Tensor bias = random_tensor(out_dtype, {n}, 3);
        const Tensor gpu_bias = to_gpu(bias, stream());
        const Tensor wide_bias = widened_tensor(bias);
        for (const bool with_bias : {false, true}) {
          for (const bool accumulate : {false, true}) {
            const Tensor before = random_tensor(out_dtype, {m, n}, 4);
            const Tensor expected =
                accumulate ? widened_tensor(before) : poisoned(DType::f32, {m, n});
            cpu::linear_plain(expected, x.view(), oracle,
                              with_bias ? wide_bias.view() : TensorView(), accumulate, cpu_stream);
            const Tensor memory = poisoned_on_gpu(out_dtype, {whole_groups(m), n}, stream());
            const TensorView out = memory->slice(0, 0, m);
            if (accumulate) contiguous_copy(out, before, stream());
            linear(out, gpu_x.view(), packed, with_bias ? gpu_bias.view() : TensorView(),
                   accumulate, stream());
            const float size = std::sqrt(static_cast<float>(k));
            // Within tensor cores sums keep 13 bits or so; blocks are added up outside.
            const float error = scaling == Fp8Scaling::rows ? 0x1p-7F : 0x1p-10F;
            const float units = 2.2F + error / rounding(out_dtype);
            EXPECT_TRUE(near_oracle(out, expected, units, size, stream()))
                << name(out_dtype) << " " << m << " x " << n << " x " << k
                << (scaling == Fp8Scaling::rows ? " rows" : " blocks") << " bias " << with_bias
                << " accumulate " << accumulate;
          }
        }
      }
    }
  }
}

TEST_F(Fp8OnGpu, StreamedProductsAgreeWithTheCpuAndWithThemselves) {
  const std::int64_t sizes[][3] = {{1, 8, 16},      {5, 136, 2064}, {16, 2504, 192},
                                   {30, 264, 4096}, {64, 520, 576}, {33, 9000, 272}};
  for (const auto& [m, n, k] : sizes) {
    const QuantizedTensor x = random_quantized(m, k, Fp8Scaling::rows, 1);
    const Fp8Weight weight = random_fp8_weight(n, k, Fp8Scaling::rows, 2);
    const LinearWeight packed = weight.packed(stream().device, stream());
    const QuantizedTensor gpu_x = on_gpu(x);
    const Tensor expected = poisoned(DType::f32, {m, n});
    cpu::linear_plain(expected, x.view(), weight.packed(Device::cpu(), cpu_stream), TensorView(),
                      false, cpu_stream);
    for (const DType out_dtype : float_types) {
      Tensor outs[2];
      for (Tensor& out : outs) {
        out = poisoned_on_gpu(out_dtype, {m, n}, stream());
        ASSERT_TRUE(
            cuda::streamed_product({m, n, k, DType::fp8_e4m3, out_dtype, out->data(),
                                    gpu_x.values().data(), packed.data->data(), nullptr, n, k,
                                    gpu_x.scales->as<float>(), packed.scales->as<float>()},
                                   stream()));
      }
      const float units = 2.2F + 0x1p-7F / rounding(out_dtype);
      const float size = std::sqrt(static_cast<float>(k));
      EXPECT_TRUE(near_oracle(outs[0], expected, units, size, stream()))
          << "to " << name(out_dtype) << " " << m << " x " << n << " x " << k;
      EXPECT_TRUE(same_bytes(to_host(outs[0], stream()).view(), to_host(outs[1], stream()).view()));
    }
  }
}

TEST_F(Fp8OnGpu, AWeightQuantizedOnTheGpuIsTheCpus) {
  for (const DType dtype : float_types) {
    const Tensor w = random_tensor(dtype, {72, 576}, 1);
    const LinearWeight gpu = quantize_linear(w, stream().device, stream());
    const QuantizedTensor expected = poisoned_quantized(72, 576, Fp8Scaling::rows, Device::cpu());
    quantize(expected.view(), w, cpu_stream);
    EXPECT_TRUE(same_bytes(to_host(gpu.data.view(), stream()).view(), expected.values()));
    EXPECT_TRUE(same_bytes(to_host(gpu.scales.view(), stream()).view(), expected.scales));
  }
}

TEST_F(Fp8OnGpu, MeasuredPlansGiveTheSameProduct) {
  for (const Fp8Scaling scaling : {Fp8Scaling::rows, Fp8Scaling::blocks}) {
    const Fp8Weight weight = random_fp8_weight(256, 512, scaling, 1);
    const LinearWeight packed = weight.packed(stream().device, stream());
    const QuantizedTensor x = random_quantized(24, 512, scaling, 2);
    tune_linear(packed, DType::bf16, false, false, {1, 24}, stream());
    const Tensor expected = poisoned(DType::f32, {24, 256});
    cpu::linear_plain(expected, x.view(), weight.packed(Device::cpu(), cpu_stream), TensorView(),
                      false, cpu_stream);
    const Tensor out = poisoned_on_gpu(DType::bf16, {24, 256}, stream());
    linear(out, on_gpu(x).view(), packed, TensorView(), false, stream());
    EXPECT_TRUE(near_oracle(out, expected, 1.2F, 22, stream()));
  }
}

TEST_F(Fp8OnGpu, SizesThatTheTensorCoresDoNotTakeAreAnErrorWithTheirNumbers) {
  EXPECT_THROW(
      (void)random_fp8_weight(8, 24, Fp8Scaling::rows, 1).packed(stream().device, stream()),
      UserError);
  EXPECT_THROW(
      (void)random_fp8_weight(8, 200, Fp8Scaling::blocks, 1).packed(stream().device, stream()),
      UserError);
  EXPECT_THROW(
      (void)quantize_linear(random_tensor(DType::bf16, {12, 64}, 1), stream().device, stream()),
      UserError);
}

}  // namespace
}  // namespace millrace
