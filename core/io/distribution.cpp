#include "core/io/distribution.hpp"

#include <algorithm>
#include <cmath>

namespace millrace {
namespace {

constexpr double most_exact = 1024;
constexpr double growth = 1.01;  // from one bin's middle to the next one's
constexpr double least = 1e-9;   // what is below counts as 0

bool is_exact(double value) { return value <= most_exact && value == std::floor(value); }

double middle_of_bin(double value) {
  if (is_exact(value) || value < least) {
    return std::floor(value);
  }
  return std::pow(growth, std::round(std::log(value) / std::log(growth)));
}

}  // namespace

void Distribution::add(double value) {
  minimum_ = count_ == 0 ? value : std::min(minimum_, value);
  maximum_ = std::max(maximum_, value);
  sum_ += value;
  ++count_;
  ++bins_[middle_of_bin(value)];
}

double Distribution::quantile(double share) const {
  const auto wanted = static_cast<std::int64_t>(
      std::ceil(std::clamp(share, 0.0, 1.0) * static_cast<double>(count_)));
  std::int64_t seen = 0;
  for (const auto& [middle, values] : bins_) {
    seen += values;
    if (seen >= wanted && seen < count_) {
      return std::clamp(middle, minimum_, maximum_);
    }
  }
  return maximum_;
}

double Distribution::count_between(double begin, double end) const {
  double values = 0;
  for (const auto& [middle, count] : bins_) {
    if (is_exact(middle)) {
      values += middle >= begin && middle < end ? static_cast<double>(count) : 0;
      continue;
    }
    const double low = middle / std::sqrt(growth);
    const double high = middle * std::sqrt(growth);
    const double overlap = std::min(high, end) - std::max(low, begin);
    values += std::max(0.0, overlap / (high - low)) * static_cast<double>(count);
  }
  return values;
}

}  // namespace millrace
