// Packing into column panels, and the plain product: three loops, the oracle of linear_fast.cpp.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "kernels/base/team.hpp"
#include "kernels/linear.hpp"
#include "kernels/quantize.hpp"

namespace millrace::cpu {
namespace {

constexpr std::int64_t width = LinearWeight::panel_width;

template <typename T>
void pack(const TensorView& w, const TensorView& panels) {
  const std::int64_t n = w.size(0);
  const std::int64_t k = w.size(1);
  const T* source = w.as<T>();
  T* packed = panels.as<T>();
#pragma omp parallel for schedule(static) if (worth_a_team(panels.size(0), n * k))
  for (std::int64_t panel = 0; panel < panels.size(0); ++panel) {
    const std::int64_t columns = std::min(width, n - panel * width);
    T* to = packed + panel * k * width;
    if (columns < width)
      std::memset(static_cast<void*>(to), 0, sizeof(T) * static_cast<std::size_t>(k * width));
    // Sixteen inputs of every row at a time: the lines written stay in the first-level cache.
    for (std::int64_t begin = 0; begin < k; begin += 16) {
      const std::int64_t end = std::min(begin + 16, k);
      for (std::int64_t j = 0; j < columns; ++j) {
        const T* row = source + (panel * width + j) * w.stride(0);
        for (std::int64_t c = begin; c < end; ++c) to[c * width + j] = row[c];
      }
    }
  }
}

float widen(float value) { return value; }
float widen(Half value) { return to_float(value); }
float widen(Bfloat16 value) { return to_float(value); }

float widen(Fp8E4m3 value) { return to_float(value); }

// What element [j, c] of the weight is multiplied with.
float scale_of(const LinearWeight& w, std::int64_t j, std::int64_t c) {
  const float* scales = w.scales->as<float>();
  if (w.scaling() == Fp8Scaling::rows) return scales[j];
  return scales[j / scale_block * w.scales->size(1) + c / scale_block];
}

template <typename T>
void multiply(const TensorView& out, const TensorView& x, const LinearWeight& w, const float* bias,
              bool accumulate) {
  for (std::int64_t i = 0; i < x.size(0); ++i) {
    const float* x_row = x.as<float>() + i * x.stride(0);
    float* out_row = out.as<float>() + i * out.stride(0);
    for (std::int64_t j = 0; j < w.n; ++j) {
      const T* column = w.data->as<T>() + (j / width) * w.k * width + j % width;
      float sum = (accumulate ? out_row[j] : 0.0F) + (bias != nullptr ? bias[j] : 0.0F);
      for (std::int64_t c = 0; c < w.k; ++c) {
        float weight = widen(column[c * width]);
        if constexpr (std::is_same_v<T, Fp8E4m3>) weight *= scale_of(w, j, c);
        sum += x_row[c] * weight;
      }
      out_row[j] = sum;
    }
  }
}

}  // namespace

LinearWeight pack_linear(const TensorView& w, Device device, Stream) {
  LinearWeight packed;
  packed.n = w.size(0);
  packed.k = w.size(1);
  packed.data = Tensor(w.dtype(), device, {(packed.n + width - 1) / width, packed.k, width});
  if (w.dtype() == DType::f32) pack<float>(w, packed.data);
  if (w.dtype() == DType::bf16) pack<Bfloat16>(w, packed.data);
  if (w.dtype() == DType::f16) pack<Half>(w, packed.data);
  if (w.dtype() == DType::fp8_e4m3) pack<Fp8E4m3>(w, packed.data);
  return packed;
}

LinearWeight pack_linear_fp8(const TensorView& w, const TensorView& scales, float input_scale,
                             Device device, Stream stream) {
  LinearWeight packed = cpu::pack_linear(w, device, stream);
  packed.scales = scales.rank() == 1 ? Tensor(DType::f32, device, {scales.size(0)})
                                     : Tensor(DType::f32, device, {scales.size(0), scales.size(1)});
  std::memcpy(packed.scales->data(), scales.data(), scales.bytes());
  packed.input_scale = input_scale;
  return packed;
}

LinearWeight quantize_linear(const TensorView& w, Device device, Stream stream) {
  const Tensor values(DType::fp8_e4m3, device, {w.size(0), w.size(1)});
  const Tensor scales(DType::f32, device, {w.size(0)});
  cpu::quantize({values, scales}, w, stream);
  return cpu::pack_linear_fp8(values, scales, 0, device, stream);
}

void linear_plain(const TensorView& out, const LinearInput& x, const LinearWeight& w,
                  const TensorView& bias, bool accumulate, Stream) {
  const float* bias_data = bias.data() != nullptr ? bias.as<float>() : nullptr;
  if (w.dtype() == DType::f32) multiply<float>(out, x.values, w, bias_data, accumulate);
  if (w.dtype() == DType::bf16) multiply<Bfloat16>(out, x.values, w, bias_data, accumulate);
  if (w.dtype() == DType::f16) multiply<Half>(out, x.values, w, bias_data, accumulate);
  if (w.dtype() == DType::fp8_e4m3) {
    const Tensor wide(DType::f32, Device::cpu(), {x.size(0), x.size(1)});
    dequantize(x, wide->as<float>());
    multiply<Fp8E4m3>(out, wide, w, bias_data, accumulate);
  }
}

}  // namespace millrace::cpu
