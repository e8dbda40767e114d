// The bytes of a spool file (layout: spool.hpp): frame headers, and the payload of each kind of
// frame. Shared by the writer and the reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/io/posix_file.hpp"
#include "core/io/spool.hpp"

namespace millrace {

inline constexpr std::string_view spool_magic = "millrspl";
inline constexpr std::size_t frame_header_bytes = 16;
inline constexpr std::uint32_t max_payload_bytes = 1U << 30;

struct FrameHeader {
  FrameType type{};
  std::uint32_t payload_bytes = 0;
  std::uint32_t payload_crc = 0;
};

// Appends a frame with the payload that encode_* makes. Throws UserError for a payload above
// max_payload_bytes.
void append_frame(std::vector<std::byte>& out, const SpoolHeader& header);
void append_frame(std::vector<std::byte>& out, const FinishedRequest& request);

// The header in the first frame_header_bytes of `bytes`; empty when their checksum does not match.
std::optional<FrameHeader> decode_frame_header(std::span<const std::byte> bytes);

// The payloads. Throw CodecError for bytes that are not one.
SpoolHeader decode_spool_header(std::span<const std::byte> payload);
FinishedRequest decode_request(std::span<const std::byte> payload);
// The request that a SpoolReader of `file` found at `entry`. Throws UserError when it is not there.
FinishedRequest read_request(const PosixFile& file, const SpoolEntry& entry);
// Only which line it answers, which stands first; the entry's place in the spool is left 0.
SpoolEntry decode_line(std::span<const std::byte> payload);

}  // namespace millrace
