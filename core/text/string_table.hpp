// A flat hash map from strings to ids, built once and read often: the vocabulary. Open addressing
// with linear probing, the strings in one arena.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::text {

// 64-bit hash of a few bytes. Not for adversaries: a hostile text costs time, not correctness.
inline uint64_t hash_bytes(std::string_view bytes) {
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15u;
  const auto mix = [](uint64_t value) {
    value *= kMultiplier;
    return value ^ value >> 32;
  };
  const char* data = bytes.data();
  std::size_t size = bytes.size();
  uint64_t hash = size * 0xD6E8FEB86659FD93u;
  for (; size >= 8; data += 8, size -= 8) {
    uint64_t word = 0;
    std::memcpy(&word, data, 8);
    hash = mix(hash ^ word);
  }
  uint64_t word = 0;
  if (size >= 4) {  // two overlapping loads, instead of a memcpy of unknown length
    uint32_t low = 0;
    uint32_t high = 0;
    std::memcpy(&low, data, 4);
    std::memcpy(&high, data + size - 4, 4);
    word = static_cast<uint64_t>(high) << 32 | low;
  } else if (size > 0) {
    word = static_cast<uint64_t>(static_cast<unsigned char>(data[0])) << 16 |
           static_cast<uint64_t>(static_cast<unsigned char>(data[size / 2])) << 8 |
           static_cast<unsigned char>(data[size - 1]);
  }
  return mix(mix(hash ^ word));
}

class StringTable {
 public:
  static constexpr int32_t kAbsent = -1;

  // Adds or overwrites. `id` >= 0.
  void insert(std::string_view key, int32_t id) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    Slot& slot = find_slot(key, hash_bytes(key));
    if (slot.id == kAbsent) {
      slot.offset = arena_.size();
      slot.length = static_cast<uint32_t>(key.size());
      arena_.append(key);
      ++count_;
    }
    slot.id = id;
  }

  int32_t find(std::string_view key) const {
    if (slots_.empty()) return kAbsent;
    return const_cast<StringTable*>(this)->find_slot(key, hash_bytes(key)).id;
  }

  std::size_t size() const { return count_; }

 private:
  struct Slot {
    uint64_t offset = 0;  // into arena_
    uint32_t length = 0;
    int32_t id = kAbsent;
  };

  std::string_view key_of(const Slot& slot) const {
    return std::string_view(arena_).substr(slot.offset, slot.length);
  }

  Slot& find_slot(std::string_view key, uint64_t hash) {
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = hash & mask;
    while (slots_[at].id != kAbsent && key_of(slots_[at]) != key) at = (at + 1) & mask;
    return slots_[at];
  }

  void grow() {
    std::vector<Slot> old(slots_.empty() ? 16 : 2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.id != kAbsent) find_slot(key_of(slot), hash_bytes(key_of(slot))) = slot;
    }
  }

  std::vector<Slot> slots_;
  std::string arena_;
  std::size_t count_ = 0;
};

}  // namespace millrace::text
