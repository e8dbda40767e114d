#include "core/io/distribution.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace millrace {
namespace {

// Bin b holds what rounds to growth^b, so that its middle is right to half of the growth.
constexpr double growth = 1.02;
constexpr int zero_bin = std::numeric_limits<int>::min();
constexpr double least = 1e-9;

int bin_of(double value) {
  return value < least ? zero_bin
                       : static_cast<int>(std::lround(std::log(value) / std::log(growth)));
}

double middle_of(int bin) { return bin == zero_bin ? 0 : std::pow(growth, bin); }

}  // namespace

void Distribution::add(double value) {
  minimum_ = count_ == 0 ? value : std::min(minimum_, value);
  maximum_ = std::max(maximum_, value);
  sum_ += value;
  ++count_;
  ++bins_[bin_of(value)];
}

double Distribution::quantile(double share) const {
  const auto wanted = static_cast<std::int64_t>(
      std::ceil(std::clamp(share, 0.0, 1.0) * static_cast<double>(count_)));
  std::int64_t seen = 0;
  for (const auto& [bin, values] : bins_) {
    seen += values;
    if (seen >= wanted) {
      return std::clamp(middle_of(bin), minimum_, maximum_);
    }
  }
  return maximum_;
}

std::int64_t Distribution::count_between(double begin, double end) const {
  std::int64_t values = 0;
  for (const auto& [bin, count] : bins_) {
    const double middle = middle_of(bin);
    values += middle >= begin && middle < end ? count : 0;
  }
  return values;
}

}  // namespace millrace
