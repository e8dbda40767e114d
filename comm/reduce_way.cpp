#include "comm/reduce_way.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace millrace {
namespace {

ReduceWay fastest(const ReduceTimes& times) {
  return std::min_element(
             times.ways.begin(), times.ways.end(),
             [](const auto& a, const auto& b) { return a.microseconds < b.microseconds; })
      ->way;
}

std::string readable(std::size_t bytes) {
  const double kib = static_cast<double>(bytes) / 1024;
  return kib < 1024 ? fmt::format("{:.3g} KiB", kib) : fmt::format("{:.3g} MiB", kib / 1024);
}

}  // namespace

std::string_view to_string(ReduceWay way) {
  switch (way) {
    case ReduceWay::nccl:
      return "NCCL";
    case ReduceWay::words:
      return "words";
    case ReduceWay::one_shot:
      return "one-shot";
    case ReduceWay::two_shot:
      return "two-shot";
  }
  return "?";
}

ReduceChoice::ReduceChoice(const std::vector<ReduceTimes>& times) {
  for (std::size_t i = 0; i < times.size(); ++i) {
    const ReduceWay way = fastest(times[i]);
    if (i > 0 && way != last_way_) {
      const double middle =
          std::sqrt(static_cast<double>(times[i - 1].bytes) * static_cast<double>(times[i].bytes));
      ranges_.push_back({static_cast<std::size_t>(middle), last_way_});
    }
    last_way_ = way;
  }
}

ReduceWay ReduceChoice::way(std::size_t bytes) const {
  for (const Range& range : ranges_) {
    if (bytes <= range.up_to) return range.way;
  }
  return last_way_;
}

std::string ReduceChoice::describe() const {
  std::string text;
  for (const Range& range : ranges_) {
    text += fmt::format("{} up to {}, ", to_string(range.way), readable(range.up_to));
  }
  return fmt::format("{}{}{}", text, ranges_.empty() ? "" : "then ", to_string(last_way_));
}

}  // namespace millrace
