#include "kernels/base/dtype.hpp"

#include <algorithm>
#include <cctype>
#include <string>

#include "kernels/base/error.hpp"

namespace millrace {

std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::fp8_e4m3:
    case DType::u8:
      return 1;
    case DType::i64:
      return 8;
  }
  return 0;
}

std::string_view name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    case DType::fp8_e4m3:
      return "fp8_e4m3";
    case DType::u8:
      return "uint8";
    case DType::i32:
      return "int32";
    case DType::i64:
      return "int64";
  }
  return "unknown";
}

DType parse_dtype(std::string_view text) {
  std::string word(text);
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (word == "float32" || word == "float" || word == "f32" || word == "fp32") return DType::f32;
  if (word == "float16" || word == "half" || word == "f16" || word == "fp16") return DType::f16;
  if (word == "bfloat16" || word == "bf16") return DType::bf16;
  if (word == "fp8_e4m3" || word == "fp8" || word == "float8_e4m3fn" || word == "f8_e4m3") {
    return DType::fp8_e4m3;
  }
  if (word == "uint8" || word == "u8") return DType::u8;
  if (word == "int32" || word == "i32") return DType::i32;
  if (word == "int64" || word == "i64") return DType::i64;
  throw UserError("unknown dtype '{}'", text);
}

float to_float(Half value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000U) << 16;
  const std::uint32_t exponent = (value.bits >> 10) & 0x1fU;
  const std::uint32_t mantissa = value.bits & 0x3ffU;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000U | (mantissa << 13));
  if (exponent != 0)
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float subnormal = static_cast<float>(mantissa) * 0x1p-24F;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(subnormal));
}

Half to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return {static_cast<std::uint16_t>(sign | 0x7e00U)};
  if (magnitude >= 0x477ff000U) return {static_cast<std::uint16_t>(sign | 0x7c00U)};
  if (magnitude < 0x38800000U) {
    // Subnormal halves count units of 2^-24; adding 0.5 lets the FPU round to nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    return {
        static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000U))};
  }
  const std::uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
  return {static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13))};
}

float to_float(Fp8E4m3 value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x80U) << 24;
  const std::uint32_t magnitude = value.bits & 0x7fU;
  if (magnitude == 0x7f) return std::bit_cast<float>(sign | 0x7fc00000U);
  // In place as exponent and mantissa, the bias is 120 too small; the product sets it right, and
  // subnormals with it.
  const float shifted = std::bit_cast<float>(magnitude << 20) * 0x1p120F;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(shifted));
}

Fp8E4m3 to_fp8_e4m3(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint8_t>((bits >> 24) & 0x80U);
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return {static_cast<std::uint8_t>(sign | 0x7fU)};
  if (magnitude < 0x3c800000U) {
    // Subnormals count units of 2^-9; adding 2^14 lets the FPU round to nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14F;
    return {
        static_cast<std::uint8_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x46800000U))};
  }
  const std::uint32_t rounded = magnitude + 0x7ffffU + ((magnitude >> 20) & 1U);
  const std::uint32_t packed = (rounded - 0x3c000000U) >> 20;
  return {static_cast<std::uint8_t>(sign | std::min(packed, 0x7eU))};
}

}  // namespace millrace
