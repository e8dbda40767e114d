// The merges of a BPE model: a pair of token ids -> its rank and the token it becomes. A flat hash
// table, since nearly all of BPE's time is lookups in it.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace millrace::text {

struct Merge {
  uint32_t rank;  // smaller merges first; kNoMerge when the pair does not merge
  int32_t token;
};
inline constexpr uint32_t kNoMerge = UINT32_MAX;

class MergeTable {
 public:
  explicit MergeTable(std::size_t expected = 0)
      : slots_(std::bit_ceil(2 * expected + 2)), shift_(64 - std::countr_zero(slots_.size())) {}

  // Adds or overwrites.
  void insert(int32_t left, int32_t right, Merge merge) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    Slot& slot = slots_[find_slot(key_of(left, right))];
    if (slot.merge.rank == kNoMerge) ++count_;
    slot = {key_of(left, right), merge};
  }

  Merge find(int32_t left, int32_t right) const {
    return slots_[find_slot(key_of(left, right))].merge;
  }

  template <typename Use>
  void for_each(Use use) const {
    for (const Slot& slot : slots_) {
      if (slot.merge.rank != kNoMerge) use(slot.merge);
    }
  }

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge{kNoMerge, -1};
  };

  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  std::size_t find_slot(uint64_t key) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = (key ^ key >> 29) * 0x9E3779B97F4A7C15u >> shift_;
    while (slots_[at].merge.rank != kNoMerge && slots_[at].key != key) at = (at + 1) & mask;
    return at;
  }

  void grow() {
    MergeTable larger(slots_.size());
    for (const Slot& slot : slots_) {
      if (slot.merge.rank != kNoMerge) larger.slots_[larger.find_slot(slot.key)] = slot;
    }
    larger.count_ = count_;
    *this = std::move(larger);
  }

  std::vector<Slot> slots_;
  int shift_;
  std::size_t count_ = 0;
};

}  // namespace millrace::text
