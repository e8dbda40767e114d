#include "core/weights/convert.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "core/weights/dequantize.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

constexpr std::int64_t largest_block = 256;

// to_float(Half) without branches, so that loops over it vectorise.
inline float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
  const float magnitude =
      std::bit_cast<float>(static_cast<std::uint32_t>(half & 0x7fffU) << 13) * 0x1p112F;
  const std::uint32_t infinite = magnitude >= 65536.0F ? 0x7f800000U : 0U;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | infinite | sign);
}

// What memcpy can read from an unaligned file buffer.
template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// The elements of one block, or a stretch of plain ones, as f32.
void to_f32(StorageType type, const std::byte* from, std::int64_t elements, float* to) {
  switch (type) {
    case StorageType::f32:
      std::memcpy(to, from, static_cast<std::size_t>(elements) * sizeof(float));
      return;
    case StorageType::f16:
      for (std::int64_t i = 0; i < elements; ++i) {
        to[i] = half_to_float(load<std::uint16_t>(from + 2 * i));
      }
      return;
    case StorageType::bf16:
      for (std::int64_t i = 0; i < elements; ++i) {
        to[i] = to_float(Bfloat16{load<std::uint16_t>(from + 2 * i)});
      }
      return;
    default:
      dequantize_block(type, from, to);
  }
}

void store(const float* from, std::int64_t elements, DType dtype, void* to) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(to, from, static_cast<std::size_t>(elements) * sizeof(float));
      return;
    case DType::f16: {
      auto* out = static_cast<Half*>(to);
      for (std::int64_t i = 0; i < elements; ++i) out[i] = to_half(from[i]);
      return;
    }
    case DType::bf16: {
      auto* out = static_cast<Bfloat16*>(to);
      for (std::int64_t i = 0; i < elements; ++i) out[i] = to_bfloat16(from[i]);
      return;
    }
    case DType::fp8_e4m3: {
      auto* out = static_cast<Fp8E4m3*>(to);
      for (std::int64_t i = 0; i < elements; ++i) out[i] = to_fp8_e4m3(from[i]);
      return;
    }
    default:
      throw ShapeError(fmt::format("weights cannot be converted to {}", name(dtype)));
  }
}

}  // namespace

void convert_elements(StorageType type, const std::byte* from, std::int64_t elements, DType dtype,
                      void* to) {
  const auto width = static_cast<std::int64_t>(size_of(dtype));
  if (is_stored_as(type, dtype)) {
    std::memcpy(to, from, static_cast<std::size_t>(elements * width));
    return;
  }
  const std::int64_t block = block_elements(type);
  const std::int64_t step = block == 1 ? largest_block : block;
  std::array<float, largest_block> values;
  for (std::int64_t i = 0; i < elements; i += step) {
    const std::int64_t count = std::min(step, elements - i);
    to_f32(type, from + i / block * block_bytes(type), count, values.data());
    store(values.data(), count, dtype, static_cast<std::byte*>(to) + i * width);
  }
}

}  // namespace millrace
