// Quantization of rows on the CPU: as the formula says.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/base/team.hpp"
#include "kernels/quantize.hpp"

namespace millrace::cpu {
namespace {

// NaN stays NaN: a maximum that skipped it would hide it.
float largest_magnitude(const float* x, std::int64_t n) {
  float largest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float magnitude = std::fabs(x[i]);
    if (!(magnitude <= largest)) largest = magnitude;
    if (std::isnan(magnitude)) return magnitude;
  }
  return largest;
}

// Elements [begin, end) of a row, which share a scale.
float quantize_part(const LinearInput& out, Fp8E4m3* to, const float* x, std::int64_t begin,
                    std::int64_t end) {
  const float scale =
      out.fixed_scale != 0 ? out.fixed_scale : fp8_scale(largest_magnitude(x + begin, end - begin));
  const float inverse = 1.0F / scale;
  for (std::int64_t i = begin; i < end; ++i) to[i] = to_fp8_e4m3(x[i] * inverse);
  return scale;
}

void widen_row(float* to, const TensorView& x, std::int64_t row) {
  const std::int64_t begin = row * x.stride(0);
  for (std::int64_t i = 0; i < x.size(1); ++i) {
    switch (x.dtype()) {
      case DType::bf16:
        to[i] = to_float(x.as<Bfloat16>()[begin + i]);
        break;
      case DType::f16:
        to[i] = to_float(x.as<Half>()[begin + i]);
        break;
      default:
        to[i] = x.as<float>()[begin + i];
    }
  }
}

}  // namespace

void quantize_row(const LinearInput& out, std::int64_t row, const float* x) {
  const std::int64_t k = out.values.size(1);
  auto* to = out.values.as<Fp8E4m3>() + row * out.values.stride(0);
  auto* scales = out.scales.as<float>() + row;
  const std::int64_t step = out.scaling() == Fp8Scaling::rows ? k : scale_block;
  for (std::int64_t begin = 0; begin < k; begin += step) {
    *scales = quantize_part(out, to, x, begin, std::min(begin + step, k));
    if (out.scaling() == Fp8Scaling::blocks) scales += out.scales.stride(0);
  }
}

void quantize(const LinearInput& out, const TensorView& x, Stream) {
#pragma omp parallel if (worth_a_team(x.size(0), x.numel() * quantize_nanoseconds))
  {
    std::vector<float> row(static_cast<std::size_t>(x.size(1)));
#pragma omp for schedule(static)
    for (std::int64_t i = 0; i < x.size(0); ++i) {
      widen_row(row.data(), x, i);
      quantize_row(out, i, row.data());
    }
  }
}

void dequantize(const LinearInput& x, float* out) {
  const std::int64_t m = x.values.size(0);
  const std::int64_t k = x.values.size(1);
  const bool blocks = x.scaling() == Fp8Scaling::blocks;
#pragma omp parallel for schedule(static) if (worth_a_team(m, m * k))
  for (std::int64_t i = 0; i < m; ++i) {
    const auto* from = x.values.as<Fp8E4m3>() + i * x.values.stride(0);
    const float* scales = x.scales.as<float>() + i;
    for (std::int64_t c = 0; c < k; ++c) {
      out[i * k + c] =
          to_float(from[c]) * (blocks ? scales[c / scale_block * x.scales.stride(0)] : scales[0]);
    }
  }
}

}  // namespace millrace::cpu
