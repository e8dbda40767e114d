// Element types of tensors, and the host's conversions between the 16-bit floats and f32.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace millrace {

enum class DType : std::uint8_t { f32, f16, bf16, fp8_e4m3, u8, i32, i64 };

// Bytes of one element.
std::size_t size_of(DType dtype);

// "float32", "float16", "bfloat16", "fp8_e4m3", "uint8", "int32", "int64".
std::string_view name(DType dtype);

// The reverse of name(); also takes "float", "half", "f32", "f16", "bf16", "fp8" in any case.
// Throws UserError for any other word.
DType parse_dtype(std::string_view text);

// IEEE half and bfloat16 as raw bits. Rounding is to nearest even; NaN stays NaN.
struct Half {
  std::uint16_t bits = 0;
};
struct Bfloat16 {
  std::uint16_t bits = 0;
};

inline float to_float(Bfloat16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

inline Bfloat16 to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) {
    return {static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
  }
  return {static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16)};
}

float to_float(Half value);
Half to_half(float value);

// FP8 E4M3 (the "fn" variant: no infinities, NaN is 0x7f, the largest number 448). Rounding is to
// nearest even; larger magnitudes saturate. Open Compute Project, "OFP8 Formats for Deep Learning".
struct Fp8E4m3 {
  std::uint8_t bits = 0;
};

float to_float(Fp8E4m3 value);
Fp8E4m3 to_fp8_e4m3(float value);

}  // namespace millrace
