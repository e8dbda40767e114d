// How a checkpoint stores the elements of a tensor: floats, of which fp8 ones mean something with
// their scales only, or blocks of quantized ones (GGUF).
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/base/dtype.hpp"

namespace millrace {

enum class StorageType : std::uint8_t {
  f32,
  f16,
  bf16,
  f8_e4m3,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q4_k,
  q5_k,
  q6_k,
};

// Elements of one block, which is the smallest part that can be read: 1, 32 or 256.
std::int64_t block_elements(StorageType type);

// Bytes of one block.
std::int64_t block_bytes(StorageType type);

// "F32", "Q4_K", ...
std::string_view name(StorageType type);

// True when the elements are `dtype` as they are stored.
bool is_stored_as(StorageType type, DType dtype);

}  // namespace millrace
