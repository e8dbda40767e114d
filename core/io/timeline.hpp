// A replica's state over time, in bounded memory: when the rows reach the limit every second one is
// dropped and only every second sample is kept from then on, so that the rows left are evenly
// spaced.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace millrace {

// One sample. Token counts are totals since the start: rates are differences, and stay right when
// rows between two are dropped.
struct TimelineRow {
  double seconds = 0;  // since the job's start
  std::int32_t replica = 0;
  std::int32_t running = 0;  // sequences
  std::int32_t waiting = 0;  // sequences admitted, without cache blocks
  std::int64_t prompt_tokens = 0;
  std::int64_t output_tokens = 0;
  std::int64_t blocks_in_use = 0;
  std::int64_t preemptions = 0;
  friend bool operator==(const TimelineRow&, const TimelineRow&) = default;
};

class Timeline {
 public:
  static constexpr std::size_t max_rows = 20000;

  explicit Timeline(std::size_t limit = max_rows);

  // Called every step, cheap. Seconds must not decrease.
  void add(const TimelineRow& row);
  // The kept rows, and the last sample in any case.
  std::vector<TimelineRow> rows() const;

 private:
  std::size_t limit_;
  std::size_t stride_ = 1;  // one of so many samples is kept
  std::size_t samples_ = 0;
  std::vector<TimelineRow> rows_;
  TimelineRow last_;
};

// The rows of all replicas, ordered by time, thinned evenly to `limit`.
std::vector<TimelineRow> join_timelines(std::span<const std::vector<TimelineRow>> replicas,
                                        std::size_t limit = Timeline::max_rows);

}  // namespace millrace
