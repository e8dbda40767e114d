// How a prompt file is cut into the byte ranges that replicas take one after another: large while
// much is left, small towards the end, so that all replicas finish together. Pure arithmetic.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace millrace {

// Bytes [begin, end) of the prompt file. A line belongs to the range that holds its first byte.
struct ByteRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t bytes() const { return end - begin; }
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

class WorkRanges {
 public:
  static constexpr std::int64_t largest_bytes = 8 << 20;
  static constexpr std::int64_t smallest_bytes = 64 << 10;        // of large files
  static constexpr std::int64_t smallest_file_share_bytes = 256;  // of small ones

  // `work`: what there is to do, in ascending order and disjoint; usually the whole file, a part of
  // it when several jobs share a file, the gaps when a job goes on. Throws UserError otherwise.
  WorkRanges(std::vector<ByteRange> work, int replicas);

  // The next range in file order: remaining / (4 x replicas) bytes, within the limits above; a
  // range never spans two of the given pieces. nullopt when all is handed out.
  std::optional<ByteRange> next();

  std::int64_t remaining_bytes() const { return remaining_; }

 private:
  std::vector<ByteRange> work_;
  std::size_t piece_ = 0;
  std::int64_t position_ = 0;
  std::int64_t remaining_ = 0;
  std::int64_t smallest_ = 0;
  int replicas_;
};

}  // namespace millrace
