#include "comm/work_ranges.hpp"

#include <algorithm>

#include "kernels/base/error.hpp"

namespace millrace {

WorkRanges::WorkRanges(std::vector<ByteRange> work, int replicas)
    : work_(std::move(work)), replicas_(replicas) {
  std::int64_t end = 0;
  for (const ByteRange& piece : work_) {
    if (piece.begin < end || piece.end < piece.begin) {
      throw UserError("the byte ranges to work on are not in order: [{}, {}) after byte {}",
                      piece.begin, piece.end, end);
    }
    end = piece.end;
    remaining_ += piece.bytes();
  }
  if (!work_.empty()) position_ = work_.front().begin;
  // A small file still makes dozens of ranges for each replica, down to a few short lines each.
  smallest_ = std::clamp(remaining_ / (64 * replicas_), smallest_file_share_bytes, smallest_bytes);
}

std::optional<ByteRange> WorkRanges::next() {
  while (piece_ < work_.size() && position_ == work_[piece_].end) {
    ++piece_;
    if (piece_ < work_.size()) position_ = work_[piece_].begin;
  }
  if (piece_ == work_.size()) return std::nullopt;
  const std::int64_t wanted = std::clamp(remaining_ / (4 * replicas_), smallest_, largest_bytes);
  const ByteRange range{position_, std::min(position_ + wanted, work_[piece_].end)};
  position_ = range.end;
  remaining_ -= range.bytes();
  return range;
}

}  // namespace millrace
