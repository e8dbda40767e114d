#include "core/io/timeline.hpp"

#include <algorithm>

namespace millrace {
namespace {

// Keeps rows 0, stride, 2 * stride, ... and the last.
void thin(std::vector<TimelineRow>& rows, std::size_t stride) {
  if (rows.empty() || stride <= 1) {
    return;
  }
  const TimelineRow last = rows.back();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < rows.size(); i += stride) {
    rows[kept++] = rows[i];
  }
  rows.resize(kept);
  if (rows.back() != last) {
    rows.push_back(last);
  }
}

}  // namespace

Timeline::Timeline(std::size_t limit) : limit_(std::max<std::size_t>(limit, 2)) {}

void Timeline::add(const TimelineRow& row) {
  last_ = row;
  if (samples_++ % stride_ != 0) {
    return;
  }
  if (rows_.size() == limit_) {
    // Of samples 0, s, 2s, ... those at 0, 2s, 4s, ... stay.
    std::size_t kept = 0;
    for (std::size_t i = 0; i < rows_.size(); i += 2) {
      rows_[kept++] = rows_[i];
    }
    rows_.resize(kept);
    stride_ *= 2;
    if ((samples_ - 1) % stride_ != 0) {
      return;
    }
  }
  rows_.push_back(row);
}

std::vector<TimelineRow> Timeline::rows() const {
  std::vector<TimelineRow> rows = rows_;
  if (!rows.empty() && rows.back() != last_) {
    rows.push_back(last_);
  }
  return rows;
}

std::vector<TimelineRow> join_timelines(std::span<const std::vector<TimelineRow>> replicas,
                                        std::size_t limit) {
  std::size_t total = 0;
  for (const auto& rows : replicas) {
    total += rows.size();
  }
  // One stride for every replica, so that their curves stay comparable; one row more for each last.
  const std::size_t room = std::max(limit, 2 * replicas.size() + 1) - replicas.size();
  const std::size_t stride = total <= limit ? 1 : (total + room - 1) / room;
  std::vector<TimelineRow> joined;
  for (const auto& rows : replicas) {
    std::vector<TimelineRow> thinned = rows;
    thin(thinned, stride);
    joined.insert(joined.end(), thinned.begin(), thinned.end());
  }
  std::ranges::stable_sort(joined, {}, &TimelineRow::seconds);
  return joined;
}

}  // namespace millrace
