#include "core/model/rope_table.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/base/team.hpp"

namespace millrace {
namespace {

// theta^(2i / rotary_dim) in f32, step by step as torch does: positions per radian of pair i.
std::vector<float> periods(double theta, int rotary_dim) {
  std::vector<float> powers(static_cast<std::size_t>(rotary_dim) / 2);
  for (std::size_t i = 0; i < powers.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(rotary_dim);
    powers[i] = std::pow(static_cast<float>(theta), exponent);
  }
  return powers;
}

// The base grows so that the slowest pair covers the longer context (NTK-aware interpolation).
double dynamic_theta(const RotarySpec& rotary, std::int64_t positions) {
  const auto original = static_cast<double>(rotary.original_max_positions);
  const double length = std::max(static_cast<double>(positions), original);
  const double dim = rotary.rotary_dim;
  const double stretch = rotary.factor * length / original - (rotary.factor - 1.0);
  return rotary.theta * std::pow(stretch, dim / (dim - 2.0));
}

// Slow pairs are divided by the factor, fast ones kept, those between blended (Llama 3.1).
void scale_llama3(const RotarySpec& rotary, std::vector<float>& frequencies) {
  const auto original = static_cast<double>(rotary.original_max_positions);
  const auto factor = static_cast<float>(rotary.factor);
  const auto longest = static_cast<float>(original / rotary.low_freq_factor);
  const auto shortest = static_cast<float>(original / rotary.high_freq_factor);
  for (float& frequency : frequencies) {
    const float wavelength = static_cast<float>(2.0 * std::numbers::pi) / frequency;
    if (wavelength > longest) {
      frequency /= factor;
    } else if (wavelength >= shortest) {
      const float smooth =
          (static_cast<float>(original) / wavelength - static_cast<float>(rotary.low_freq_factor)) /
          static_cast<float>(rotary.high_freq_factor - rotary.low_freq_factor);
      frequency = (1.0F - smooth) * frequency / factor + smooth * frequency;
    }
  }
}

// Pairs that turn more than beta_fast times in the trained length are kept, those that turn less
// than beta_slow times divided by the factor, a linear ramp between arXiv:2309.00071
void scale_yarn(const RotarySpec& rotary, const std::vector<float>& powers,
                std::vector<float>& frequencies) {
  const double dim = rotary.rotary_dim;
  const auto pair_of = [&](double rotations) {
    return dim *
           std::log(static_cast<double>(rotary.original_max_positions) /
                    (rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(rotary.theta));
  };
  double low = pair_of(rotary.beta_fast);
  double high = pair_of(rotary.beta_slow);
  if (rotary.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float ramp =
        (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float kept = 1.0F - std::clamp(ramp, 0.0F, 1.0F);
    const float stretched = 1.0F / (static_cast<float>(rotary.factor) * powers[i]);
    frequencies[i] = stretched * (1.0F - kept) + frequencies[i] * kept;
  }
}

float yarn_attention_factor(const RotarySpec& rotary) {
  if (rotary.attention_factor) return static_cast<float>(*rotary.attention_factor);
  const auto mscale = [&](double weight) {
    return rotary.factor <= 1.0 ? 1.0 : 0.1 * weight * std::log(rotary.factor) + 1.0;
  };
  if (rotary.mscale.value_or(0.0) != 0.0 && rotary.mscale_all_dim.value_or(0.0) != 0.0) {
    return static_cast<float>(mscale(*rotary.mscale) / mscale(*rotary.mscale_all_dim));
  }
  return static_cast<float>(mscale(1.0));
}

}  // namespace

std::vector<float> rope_table(const RotarySpec& rotary, std::int64_t positions) {
  const bool is_dynamic = rotary.scaling == RopeScaling::dynamic;
  const std::vector<float> powers =
      periods(is_dynamic ? dynamic_theta(rotary, positions) : rotary.theta, rotary.rotary_dim);
  std::vector<float> frequencies(powers.size());
  for (std::size_t i = 0; i < powers.size(); ++i) frequencies[i] = 1.0F / powers[i];
  float magnitude = 1.0F;
  if (rotary.scaling == RopeScaling::linear) {
    for (float& frequency : frequencies) frequency /= static_cast<float>(rotary.factor);
  } else if (rotary.scaling == RopeScaling::llama3) {
    scale_llama3(rotary, frequencies);
  } else if (rotary.scaling == RopeScaling::yarn) {
    scale_yarn(rotary, powers, frequencies);
    magnitude = yarn_attention_factor(rotary);
  }
  for (std::size_t i = 0; i < rotary.frequency_factors.size(); ++i) {
    frequencies[i] /= rotary.frequency_factors[i];
  }

  const auto width = static_cast<std::size_t>(rotary.rotary_dim);
  const std::size_t half = width / 2;
  std::vector<float> table(static_cast<std::size_t>(positions) * width);
  // 20 ns for a sine and a cosine.
  const auto nanoseconds = 20 * positions * static_cast<std::int64_t>(half);
#pragma omp parallel for if (worth_a_team(positions, nanoseconds))
  for (std::int64_t position = 0; position < positions; ++position) {
    float* row = table.data() + static_cast<std::size_t>(position) * width;
    for (std::size_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(position) * frequencies[i];
      row[i] = std::cos(angle) * magnitude;
      row[half + i] = std::sin(angle) * magnitude;
    }
  }
  return table;
}

}  // namespace millrace
