#include "core/weights/dequantize.hpp"

#include <array>
#include <cstring>
#include <stdexcept>

#include "kernels/base/dtype.hpp"

namespace millrace {
namespace {

using Byte = std::uint8_t;

float scale_at(const Byte* from) {
  Half half;
  std::memcpy(&half.bits, from, sizeof half.bits);
  return to_float(half);
}

std::uint32_t bits_at(const Byte* from) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, from, sizeof bits);
  return bits;
}

// 32 elements. The low nibbles of 16 bytes are elements 0..15, the high nibbles 16..31.

// d[2] q[16]: d * (q - 8)
void q4_0(const Byte* block, float* to) {
  const float d = scale_at(block);
  const Byte* q = block + 2;
  for (int i = 0; i < 16; ++i) {
    to[i] = d * static_cast<float>((q[i] & 15) - 8);
    to[i + 16] = d * static_cast<float>((q[i] >> 4) - 8);
  }
}

// d[2] m[2] q[16]: d * q + m
void q4_1(const Byte* block, float* to) {
  const float d = scale_at(block);
  const float m = scale_at(block + 2);
  const Byte* q = block + 4;
  for (int i = 0; i < 16; ++i) {
    to[i] = d * static_cast<float>(q[i] & 15) + m;
    to[i + 16] = d * static_cast<float>(q[i] >> 4) + m;
  }
}

// The fifth bits of element i of 32 is bit i of a little-endian word.
int five_bits(int nibble, std::uint32_t high, int element) {
  return nibble | static_cast<int>((high >> element) & 1U) << 4;
}

// d[2] high[4] q[16]: d * (q - 16)
void q5_0(const Byte* block, float* to) {
  const float d = scale_at(block);
  const std::uint32_t high = bits_at(block + 2);
  const Byte* q = block + 6;
  for (int i = 0; i < 16; ++i) {
    to[i] = d * static_cast<float>(five_bits(q[i] & 15, high, i) - 16);
    to[i + 16] = d * static_cast<float>(five_bits(q[i] >> 4, high, i + 16) - 16);
  }
}

// d[2] m[2] high[4] q[16]: d * q + m
void q5_1(const Byte* block, float* to) {
  const float d = scale_at(block);
  const float m = scale_at(block + 2);
  const std::uint32_t high = bits_at(block + 4);
  const Byte* q = block + 8;
  for (int i = 0; i < 16; ++i) {
    to[i] = d * static_cast<float>(five_bits(q[i] & 15, high, i)) + m;
    to[i + 16] = d * static_cast<float>(five_bits(q[i] >> 4, high, i + 16)) + m;
  }
}

// d[2] q[32], signed: d * q
void q8_0(const Byte* block, float* to) {
  const float d = scale_at(block);
  for (int i = 0; i < 32; ++i) {
    to[i] = d * static_cast<float>(static_cast<std::int8_t>(block[2 + i]));
  }
}

// 256 elements in 8 groups of 32, each with a 6-bit scale and a 6-bit minimum packed into 12 bytes:
// groups 0..3 have theirs in the low six bits of bytes 0..3 and 4..7; groups 4..7 have the low four
// bits in the nibbles of bytes 8..11 and the high two in the top bits of bytes 0..7.
struct GroupScales {
  std::array<float, 8> scale;
  std::array<float, 8> minimum;
};

GroupScales group_scales(const Byte* block) {
  const float d = scale_at(block);
  const float dmin = scale_at(block + 2);
  const Byte* packed = block + 4;
  GroupScales groups;
  for (std::size_t i = 0; i < 4; ++i) {
    const Byte low_scale = packed[i];
    const Byte low_minimum = packed[i + 4];
    const Byte nibbles = packed[i + 8];
    groups.scale[i] = d * static_cast<float>(low_scale & 63);
    groups.minimum[i] = dmin * static_cast<float>(low_minimum & 63);
    groups.scale[i + 4] = d * static_cast<float>((nibbles & 15) | (low_scale >> 6) << 4);
    groups.minimum[i + 4] = dmin * static_cast<float>((nibbles >> 4) | (low_minimum >> 6) << 4);
  }
  return groups;
}

// d[2] dmin[2] scales[12] q[128]: scale * q - minimum. Each 32 bytes of q hold one group in their
// low nibbles and the next in their high ones.
void q4_k(const Byte* block, float* to) {
  const GroupScales groups = group_scales(block);
  const Byte* q = block + 16;
  for (std::size_t group = 0; group < 8; ++group) {
    const Byte* bytes = q + group / 2 * 32;
    const int shift = group % 2 == 0 ? 0 : 4;
    for (int i = 0; i < 32; ++i) {
      *to++ = groups.scale[group] * static_cast<float>((bytes[i] >> shift) & 15) -
              groups.minimum[group];
    }
  }
}

// d[2] dmin[2] scales[12] high[32] q[128]: as q4_k, with bit `group` of high[i] as the fifth bit of
// element i of each group.
void q5_k(const Byte* block, float* to) {
  const GroupScales groups = group_scales(block);
  const Byte* high = block + 16;
  const Byte* q = block + 48;
  for (std::size_t group = 0; group < 8; ++group) {
    const Byte* bytes = q + group / 2 * 32;
    const int shift = group % 2 == 0 ? 0 : 4;
    for (int i = 0; i < 32; ++i) {
      const int value = ((bytes[i] >> shift) & 15) | ((high[i] >> group) & 1) << 4;
      *to++ = groups.scale[group] * static_cast<float>(value) - groups.minimum[group];
    }
  }
}

// low[128] high[64] scales[16] (signed) d[2]: d * scale * (q - 32), one scale for 16 elements. In
// each half of 128 elements, quarter j takes its low nibbles from 32 bytes shared with quarter j +-
// 2 and its high two bits from bits 2j, 2j + 1 of 32 bytes.
void q6_k(const Byte* block, float* to) {
  const float d = scale_at(block + 208);
  for (int half = 0; half < 2; ++half) {
    const Byte* low = block + half * 64;
    const Byte* high = block + 128 + half * 32;
    const Byte* scales = block + 192 + half * 8;
    for (int quarter = 0; quarter < 4; ++quarter) {
      const Byte* nibbles = low + quarter % 2 * 32;
      const int shift = quarter < 2 ? 0 : 4;
      for (int i = 0; i < 32; ++i) {
        const int value = ((nibbles[i] >> shift) & 15) | ((high[i] >> (2 * quarter)) & 3) << 4;
        const float scale =
            d * static_cast<float>(static_cast<std::int8_t>(scales[quarter * 2 + i / 16]));
        *to++ = scale * static_cast<float>(value - 32);
      }
    }
  }
}

}  // namespace

void dequantize_block(StorageType type, const std::byte* block, float* to) {
  const auto* bytes = reinterpret_cast<const Byte*>(block);
  switch (type) {
    case StorageType::q4_0:
      return q4_0(bytes, to);
    case StorageType::q4_1:
      return q4_1(bytes, to);
    case StorageType::q5_0:
      return q5_0(bytes, to);
    case StorageType::q5_1:
      return q5_1(bytes, to);
    case StorageType::q8_0:
      return q8_0(bytes, to);
    case StorageType::q4_k:
      return q4_k(bytes, to);
    case StorageType::q5_k:
      return q5_k(bytes, to);
    case StorageType::q6_k:
      return q6_k(bytes, to);
    case StorageType::f32:
    case StorageType::f16:
    case StorageType::bf16:
    case StorageType::f8_e4m3:
      break;
  }
  throw std::logic_error("not a quantized type");
}

}  // namespace millrace
