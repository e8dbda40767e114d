// The device half of PeerChannel (comm/peer_channel.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "comm/peers.hpp"
#include "kernels/base/stream.hpp"

namespace millrace::cuda {

inline constexpr std::size_t channel_piece_bytes = 16U << 20U;
inline constexpr unsigned channel_slots = 8;

// Of each rank's memory.
std::size_t channel_bytes();

// Piece `number` (1, 2, ... on both sides; the same size on both) to the next rank, from the
// previous one. 0 < bytes <= channel_piece_bytes.
void send_channel_piece(const std::byte* from, std::size_t bytes, std::uint64_t number,
                        const Peers& peers, Stream stream);
void receive_channel_piece(std::byte* to, std::size_t bytes, std::uint64_t number,
                           const Peers& peers, Stream stream);

}  // namespace millrace::cuda
