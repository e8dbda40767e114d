// The sizes that a GPU's decode steps are padded to, so that few recorded graphs serve all of them:
// near enough that padding costs a percent or two (a product of up to 64 rows takes as long as one
// of 1, and padded sequences have no keys), and few enough that recording them all takes little
// time and memory.
#pragma once

#include <compare>
#include <cstdint>

#include "core/engine/device_batch.hpp"

namespace millrace {

struct GraphSize {
  std::int64_t sequences = 0;
  std::int64_t table_width = 0;  // blocks
  friend auto operator<=>(const GraphSize&, const GraphSize&) = default;
};

class GraphSizes {
 public:
  explicit GraphSizes(const BatchLimits& limits) : limits_(limits) {}

  // For a step of so many sequences whose longest has so many blocks; never above the limits.
  GraphSize padded(std::int64_t sequences, std::int64_t blocks) const;

  // How many there are.
  std::int64_t count() const;

 private:
  std::int64_t padded_sequences(std::int64_t sequences) const;
  std::int64_t padded_width(std::int64_t blocks) const;

  BatchLimits limits_;
};

}  // namespace millrace
