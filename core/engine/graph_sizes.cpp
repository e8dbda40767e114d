#include "core/engine/graph_sizes.hpp"

#include <algorithm>
#include <bit>

namespace millrace {

namespace {

constexpr std::int64_t least_table_width = 32;  // blocks

std::int64_t power_of_two(std::int64_t least) {
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(least)));
}

// Above 1,024 in sixteen steps to twice as many.
std::int64_t rounded_up(std::int64_t sequences) {
  if (sequences <= 8) return power_of_two(sequences);
  const std::int64_t step = sequences <= 256    ? 16
                            : sequences <= 1024 ? 32
                                                : power_of_two(sequences) / 32;
  return (sequences + step - 1) / step * step;
}

}  // namespace

GraphSize GraphSizes::padded(std::int64_t sequences, std::int64_t blocks) const {
  return {padded_sequences(sequences), padded_width(blocks)};
}

std::int64_t GraphSizes::padded_sequences(std::int64_t sequences) const {
  return std::min(rounded_up(sequences), limits_.sequences);
}

std::int64_t GraphSizes::padded_width(std::int64_t blocks) const {
  const std::int64_t most = limits_.blocks_per_sequence;
  return std::clamp(power_of_two(blocks), std::min(least_table_width, most), most);
}

std::int64_t GraphSizes::count() const {
  std::int64_t sizes = 0;
  for (std::int64_t n = 0; n < limits_.sequences; ++sizes) n = padded_sequences(n + 1);
  std::int64_t widths = 0;
  for (std::int64_t n = 0; n < limits_.blocks_per_sequence; ++widths) n = padded_width(n + 1);
  return sizes * widths;
}

}  // namespace millrace
