// How values are spread, in constant memory: counted in bins whose width grows with the value, so
// that a quantile is right to 1 %. For lengths and times of any number of requests.
#pragma once

#include <cstdint>
#include <map>

namespace millrace {

class Distribution {
 public:
  // Values are not negative.
  void add(double value);

  std::int64_t count() const { return count_; }
  double sum() const { return sum_; }
  double minimum() const { return minimum_; }
  double maximum() const { return maximum_; }
  double mean() const { return count_ > 0 ? sum_ / static_cast<double>(count_) : 0; }
  // The value that `share` of all are at or below, within 1 %; 0 when there are none.
  double quantile(double share) const;
  // How many values lie in [begin, end), to the precision of the bins.
  std::int64_t count_between(double begin, double end) const;

 private:
  std::map<int, std::int64_t> bins_;  // by logarithm; at most a few thousand
  std::int64_t count_ = 0;
  double sum_ = 0;
  double minimum_ = 0;
  double maximum_ = 0;
};

}  // namespace millrace
