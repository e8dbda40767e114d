// XXH64 (Yann Collet's xxHash, 64 bits, seed 0): a fast digest that tells files apart. It guards
// against mistakes and damage, not against someone who forges a file. Source: the xxHash
// specification, "XXH64 algorithm description".
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace millrace {

std::uint64_t xxh64(std::span<const std::byte> bytes);

}  // namespace millrace
