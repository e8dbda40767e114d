// CRC-32C (Castagnoli, polynomial 0x1EDC6F41, RFC 3720 appendix B.4): the checksum of spool frames.
// Uses the SSE4.2 instruction where the CPU has it, a table elsewhere; both give the same value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace millrace {

// The CRC of `bytes`, continuing `crc` (the CRC of what stands before; 0 at the start).
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t crc = 0);

// The table version, which the fast one is tested against.
std::uint32_t crc32c_plain(std::span<const std::byte> bytes, std::uint32_t crc = 0);

}  // namespace millrace
