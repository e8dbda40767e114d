// How values are spread, in constant memory: whole numbers up to 1,024 are counted one by one, all
// else in bins 1 % wide. For lengths and times of any number of requests.
#pragma once

#include <cstdint>
#include <map>

namespace millrace {

class Distribution {
 public:
  // Values are not negative.
  void add(double value);

  std::int64_t count() const { return count_; }
  double minimum() const { return minimum_; }
  double maximum() const { return maximum_; }
  double mean() const { return count_ > 0 ? sum_ / static_cast<double>(count_) : 0; }
  // The value that `share` of all are at or below, within 1 %; 0 when there are none.
  double quantile(double share) const;
  // How many values lie in [begin, end); those of a bin that is cut count in proportion.
  double count_between(double begin, double end) const;

 private:
  std::map<double, std::int64_t> bins_;  // by the value in the middle; at most a few thousand
  std::int64_t count_ = 0;
  double sum_ = 0;
  double minimum_ = 0;
  double maximum_ = 0;
};

}  // namespace millrace
