// One row at a time. Sums run over 16 interleaved partial sums that are then added in order: a
// fixed order, which compilers turn into vector code, and a smaller rounding error than one long
// chain.
#include <cmath>
#include <vector>

#include "kernels/base/team.hpp"
#include "kernels/norm.hpp"
#include "kernels/quantize.hpp"

namespace millrace::cpu {
namespace {

template <typename Term>
float sum_over(std::int64_t n, Term term) {
  constexpr std::int64_t lanes = 16;
  float partial[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (std::int64_t lane = 0; lane < lanes; ++lane) partial[lane] += term(i + lane);
  }
  for (std::int64_t lane = 0; i < n; ++i, ++lane) partial[lane] += term(i);
  float sum = 0;
  for (const float value : partial) sum += value;
  return sum;
}

void norm_row(float* out, const float* x, const NormWeights& weights, std::int64_t n) {
  const auto count = static_cast<float>(n);
  const float* weight = weights.weight.as<float>();
  const float* bias = weights.bias.data() != nullptr ? weights.bias.as<float>() : nullptr;
  const float mean = weights.kind == NormKind::layer
                         ? sum_over(n, [x](std::int64_t i) { return x[i]; }) / count
                         : 0.0F;
  const float variance =
      sum_over(n, [x, mean](std::int64_t i) { return (x[i] - mean) * (x[i] - mean); }) / count;
  const float scale = 1.0F / std::sqrt(variance + weights.eps);
  for (std::int64_t i = 0; i < n; ++i) {
    out[i] = (x[i] - mean) * scale * (weight[i] + weights.weight_offset) +
             (bias != nullptr ? bias[i] : 0.0F);
  }
}

float* row(const TensorView& tensor, std::int64_t i) {
  return tensor.as<float>() + i * tensor.stride(0);
}

// Row t of `out`, whatever its form.
void norm_into(const LinearInput& out, std::int64_t t, const float* x, const NormWeights& weights) {
  if (!out.is_quantized()) return norm_row(row(out.values, t), x, weights, out.size(1));
  thread_local std::vector<float> values;
  values.resize(static_cast<std::size_t>(out.size(1)));
  norm_row(values.data(), x, weights, out.size(1));
  quantize_row(out, t, values.data());
}

// What `out` takes one thread.
std::int64_t nanoseconds(const LinearInput& out) {
  return out.values.numel() / 4 +
         (out.is_quantized() ? out.values.numel() * quantize_nanoseconds : 0);
}

}  // namespace

void norm(const LinearInput& out, const TensorView& x, const NormWeights& weights, Stream) {
#pragma omp parallel for schedule(static) if (worth_a_team(x.size(0), nanoseconds(out)))
  for (std::int64_t t = 0; t < x.size(0); ++t) norm_into(out, t, row(x, t), weights);
}

void add_norm(const LinearInput& out, const TensorView& residual, const TensorView& x,
              const NormWeights& weights, Stream) {
#pragma omp parallel for schedule(static) if (worth_a_team(x.size(0), nanoseconds(out)))
  for (std::int64_t t = 0; t < x.size(0); ++t) {
    float* sum = row(residual, t);
    const float* term = row(x, t);
    for (std::int64_t i = 0; i < x.size(1); ++i) sum[i] += term[i];
    norm_into(out, t, sum, weights);
  }
}

void add(const TensorView& residual, const TensorView& x, Stream) {
#pragma omp parallel for schedule(static) if (worth_a_team(x.size(0), x.numel() / 4))
  for (std::int64_t t = 0; t < x.size(0); ++t) {
    float* sum = row(residual, t);
    const float* term = row(x, t);
    for (std::int64_t i = 0; i < x.size(1); ++i) sum[i] += term[i];
  }
}

}  // namespace millrace::cpu
