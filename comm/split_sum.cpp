#include "comm/split_sum.hpp"

#include <utility>

#include "comm/all_reduce_add_norm.hpp"

namespace millrace {
namespace {

// Halves of fewer rows make products that do not fill the device, for sums that are soon done.
constexpr std::int64_t fewest_rows = 2048;
// Tiles of products, and groups of rows that are quantized together, are not cut.
constexpr std::int64_t row_granule = 256;

std::int64_t first_half(std::int64_t rows) {
  return (rows / 2 + row_granule - 1) / row_granule * row_granule;
}

}  // namespace

std::size_t SumInParts::largest_part_bytes(std::int64_t rows, std::size_t row_bytes) {
  return rows < fewest_rows ? 0 : static_cast<std::size_t>(first_half(rows)) * row_bytes;
}

SumInParts::SumInParts(const Comm& comm, const TensorView& x, Stream stream) : comm_(comm) {
  const std::int64_t rows = x.size(0);
  const std::int64_t half = first_half(rows);
  if (rows >= fewest_rows && comm.can_carry_sum(x.slice(0, 0, half), stream)) {
    parts_ = {{0, 0, half}, {1, half, rows - half}};
  } else {
    parts_ = {{0, 0, rows}};
  }
}

void SumInParts::add(const Rows& part, const LinearInput& out, const TensorView& residual,
                     const TensorView& x, const NormWeights& weights, Stream stream) {
  if (parts_.size() == 1) return all_reduce_add_norm(comm_, out, residual, x, weights, stream);
  comm_.begin_sum(x, stream);
  finish(stream);
  pending_ = Pending{part.part, out, residual, x, weights};
}

void SumInParts::wait_for(const Rows& part, Stream stream) {
  if (pending_ && pending_->part == part.part) finish(stream);
}

void SumInParts::finish(Stream stream) {
  if (!pending_) return;
  const Pending sum = *std::exchange(pending_, std::nullopt);
  comm_.end_sum_add_norm(sum.out, sum.residual, sum.x, sum.weights, stream);
}

}  // namespace millrace
