// The free list of a paged KV cache. A block is a number: block b holds the keys and values of
// block_size consecutive tokens of one sequence, at slots [b * block_size, (b + 1) * block_size).
// Pure bookkeeping: the memory belongs to the executor. Every rank of a replica makes the same
// calls and so hands out the same numbers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace millrace {

class BlockPool {
 public:
  explicit BlockPool(std::int32_t num_blocks);

  std::int32_t num_blocks() const { return static_cast<std::int32_t>(is_free_.size()); }
  std::int32_t num_free() const { return static_cast<std::int32_t>(free_.size()); }
  std::int32_t num_used() const { return num_blocks() - num_free(); }

  // The block given back last. Throws std::logic_error when none is free: ask num_free() first.
  std::int32_t allocate();

  // Throws std::logic_error for a block that is free already or was never in the pool.
  void release(std::span<const std::int32_t> blocks);

 private:
  std::vector<std::int32_t> free_;  // a stack
  std::vector<bool> is_free_;
};

}  // namespace millrace
