#include "core/batch/block_pool.hpp"

#include <fmt/format.h>

#include <stdexcept>

namespace millrace {

BlockPool::BlockPool(std::int32_t num_blocks)
    : is_free_(static_cast<std::size_t>(num_blocks), true) {
  free_.reserve(is_free_.size());
  for (std::int32_t block = num_blocks - 1; block >= 0; --block) free_.push_back(block);
}

std::int32_t BlockPool::allocate() {
  if (free_.empty()) throw std::logic_error("block pool: allocate() with no block free");
  const std::int32_t block = free_.back();
  free_.pop_back();
  is_free_[static_cast<std::size_t>(block)] = false;
  return block;
}

void BlockPool::release(std::span<const std::int32_t> blocks) {
  for (const std::int32_t block : blocks) {
    if (block < 0 || block >= num_blocks() || is_free_[static_cast<std::size_t>(block)]) {
      throw std::logic_error(fmt::format("block pool: block {} is not in use", block));
    }
    is_free_[static_cast<std::size_t>(block)] = true;
    free_.push_back(block);
  }
}

}  // namespace millrace
