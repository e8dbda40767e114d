// What an all-reduce computes, and which way one between GPUs takes, by its size, as measured when
// the communicator was made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace {

enum class ReduceOp : std::uint8_t { sum, min, max };

enum class ReduceWay : std::uint8_t {
  nccl,
  words,     // each rank writes all it has to all others, a flag beside every word
  one_shot,  // the same with a flag for every row
  two_shot,  // each row goes to one rank, which adds and hands the sum out
};

std::string_view to_string(ReduceWay way);

// One size as measured: the slowest rank's time, the same numbers on all ranks.
struct ReduceTimes {
  std::size_t bytes = 0;
  struct Entry {
    ReduceWay way = ReduceWay::nccl;
    double microseconds = 0;
  };
  std::vector<Entry> ways;
};

class ReduceChoice {
 public:
  // NCCL at all sizes.
  ReduceChoice() = default;
  // The fastest way at each size measured (ascending, each with at least one way); a size between
  // two of them goes with the nearer one on a logarithmic scale.
  explicit ReduceChoice(const std::vector<ReduceTimes>& times);

  ReduceWay way(std::size_t bytes) const;
  // "words up to 181 KiB, one_shot up to 5.7 MiB, then nccl"
  std::string describe() const;

 private:
  struct Range {
    std::size_t up_to = 0;  // bytes, inclusive
    ReduceWay way = ReduceWay::nccl;
  };
  std::vector<Range> ranges_;             // ascending
  ReduceWay last_way_ = ReduceWay::nccl;  // beyond the last of them
};

}  // namespace millrace
