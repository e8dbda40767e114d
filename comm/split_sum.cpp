#include "comm/split_sum.hpp"

#include <utility>

#include "comm/all_reduce_add_norm.hpp"
#include "comm/progress.hpp"

namespace millrace {
namespace {

constexpr auto op = "all_reduce_add_norm";
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

SumInParts::SumInParts(const Comm& comm, const TensorView& x, Stream stream)
    : comm_(comm), carrier_(comm.sum_carrier(x)) {
  const std::int64_t rows = x.size(0);
  const std::int64_t half = first_half(rows);
  if (rows < fewest_rows || carrier_ == nullptr ||
      !carrier_->can_carry(x.slice(0, 0, half), stream)) {
    carrier_ = nullptr;
    parts_ = {{0, 0, rows}};
  } else {
    parts_ = {{0, 0, half}, {1, half, rows - half}};
  }
}

void SumInParts::add(const Rows& part, const LinearInput& out, const TensorView& residual,
                     const TensorView& x, const NormWeights& weights, Stream stream) {
  if (carrier_ == nullptr) return all_reduce_add_norm(comm_, out, residual, x, weights, stream);
  const WaitingIn mark(op);
  check_add_norm(op, out, residual, x, weights, stream);
  carrier_->begin(x, stream);
  finish(stream);
  pending_ = Pending{part.part, out, residual, x, weights};
}

void SumInParts::wait_for(const Rows& part, Stream stream) {
  if (pending_ && pending_->part == part.part) finish(stream);
}

void SumInParts::finish(Stream stream) {
  if (!pending_) return;
  const WaitingIn mark(op);
  const Pending sum = *std::exchange(pending_, std::nullopt);
  carrier_->end_add_norm(sum.out, sum.residual, sum.x, sum.weights, stream);
}

}  // namespace millrace
