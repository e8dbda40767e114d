#include "comm/peer_channel.hpp"

#include <algorithm>

#include "comm/peer_channel_kernels.hpp"

namespace millrace::cuda {
namespace {

std::size_t pieces_of(const TensorView& x) {
  return x.empty() ? 0 : (x.bytes() + channel_piece_bytes - 1) / channel_piece_bytes;
}

std::byte* begin_of(const TensorView& x, std::size_t piece) {
  return static_cast<std::byte*>(x.data()) + piece * channel_piece_bytes;
}

std::size_t bytes_of(const TensorView& x, std::size_t piece) {
  return std::min(channel_piece_bytes, x.bytes() - piece * channel_piece_bytes);
}

}  // namespace

std::size_t PeerChannel::bytes() { return channel_bytes(); }

void PeerChannel::send(const TensorView& x, Stream stream) {
  for (std::size_t piece = 0; piece < pieces_of(x); ++piece) {
    send_channel_piece(begin_of(x, piece), bytes_of(x, piece), sent_ + 1, memory_->peers(), stream);
    ++sent_;  // not of a piece that was refused
  }
}

void PeerChannel::receive(const TensorView& x, Stream stream) {
  for (std::size_t piece = 0; piece < pieces_of(x); ++piece) {
    receive_channel_piece(begin_of(x, piece), bytes_of(x, piece), received_ + 1, memory_->peers(),
                          stream);
    ++received_;
  }
}

}  // namespace millrace::cuda
