// A piece of a message takes one of the receiver's slots, in turn. Blocks copy a part of it each;
// every part has a flag that carries the piece's number, and the receiver's last block tells the
// sender that the slot is free again.
#include <algorithm>
#include <stdexcept>

#include "comm/peer_channel_kernels.hpp"
#include "comm/peer_wait_cuda.cuh"
#include "kernels/base/cuda_check.hpp"

namespace millrace::cuda {
namespace {

constexpr std::size_t part_bytes = 32U << 10U;  // of one block
constexpr std::size_t parts = channel_piece_bytes / part_bytes;
constexpr unsigned threads = 256;

// A rank's memory: what the previous rank writes, and what the next one does.
struct ChannelHead {
  std::uint64_t arrived[channel_slots][parts];  // by the sender: the piece's number
  std::uint64_t emptied[channel_slots];         // by the receiver of what this rank sends
  std::uint32_t readers;                        // blocks that are done with the piece
};
constexpr std::size_t head_bytes = (sizeof(ChannelHead) + 255) / 256 * 256;

__device__ int next_of(const Peers& peers) { return (peers.rank + 1) % peers.size; }
__device__ int previous_of(const Peers& peers) {
  return (peers.rank + peers.size - 1) % peers.size;
}

__device__ ChannelHead* head_of(std::byte* base) { return reinterpret_cast<ChannelHead*>(base); }

__device__ std::byte* slot_of(std::byte* base, unsigned slot) {
  return base + head_bytes + slot * channel_piece_bytes;
}

// `count` bytes by the whole block, 16 at a time where both sides are aligned to that.
__device__ void copy_part(std::byte* to, const std::byte* from, std::size_t count) {
  const bool aligned =
      (reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from)) % 16 == 0;
  const std::size_t packed = aligned ? count / 16 : 0;
#pragma unroll 4
  for (std::size_t i = threadIdx.x; i < packed; i += threads) {
    reinterpret_cast<uint4*>(to)[i] = __ldcg(reinterpret_cast<const uint4*>(from) + i);
  }
  for (std::size_t i = packed * 16 + threadIdx.x; i < count; i += threads) {
    to[i] = static_cast<std::byte>(__ldcg(reinterpret_cast<const unsigned char*>(from) + i));
  }
}

__device__ std::size_t bytes_of_part(std::size_t bytes) {
  const std::size_t begin = blockIdx.x * part_bytes;
  return bytes - begin < part_bytes ? bytes - begin : part_bytes;
}

__global__ void __launch_bounds__(threads)
    peer_send(const std::byte* from, std::size_t bytes, std::uint64_t number, Peers peers) {
  const auto slot = static_cast<unsigned>(number % channel_slots);
  const int to = next_of(peers);
  if (threadIdx.x == 0 && number > channel_slots) {
    wait_for(&head_of(peers.bases[peers.rank])->emptied[slot], number - channel_slots, peers.alarm,
             to);
  }
  __syncthreads();
  const std::size_t begin = blockIdx.x * part_bytes;
  copy_part(slot_of(peers.bases[to], slot) + begin, from + begin, bytes_of_part(bytes));
  __syncthreads();
  if (threadIdx.x == 0) {
    store_release(&head_of(peers.bases[to])->arrived[slot][blockIdx.x], number);
  }
}

__global__ void __launch_bounds__(threads)
    peer_receive(std::byte* to, std::size_t bytes, std::uint64_t number, Peers peers) {
  const auto slot = static_cast<unsigned>(number % channel_slots);
  const int from = previous_of(peers);
  std::byte* own = peers.bases[peers.rank];
  ChannelHead* head = head_of(own);
  if (threadIdx.x == 0) wait_for(&head->arrived[slot][blockIdx.x], number, peers.alarm, from);
  __syncthreads();
  const std::size_t begin = blockIdx.x * part_bytes;
  copy_part(to + begin, slot_of(own, slot) + begin, bytes_of_part(bytes));
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && atomicInc(&head->readers, gridDim.x - 1) == gridDim.x - 1) {
    store_release(&head_of(peers.bases[from])->emptied[slot], number);
  }
}

unsigned blocks_of(std::size_t bytes) {
  return static_cast<unsigned>((bytes + part_bytes - 1) / part_bytes);
}

// A replayed graph would carry old numbers.
cudaStream_t stream_outside_graphs(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cuda_check(cudaStreamIsCapturing(native(stream), &status), "cudaStreamIsCapturing");
  if (status != cudaStreamCaptureStatusNone) {
    throw std::logic_error("a message between GPUs cannot be part of a graph");
  }
  return native(stream);
}

}  // namespace

std::size_t channel_bytes() { return head_bytes + channel_slots * channel_piece_bytes; }

void send_channel_piece(const std::byte* from, std::size_t bytes, std::uint64_t number,
                        const Peers& peers, Stream stream) {
  peer_send<<<blocks_of(bytes), threads, 0, stream_outside_graphs(stream)>>>(from, bytes, number,
                                                                             peers);
  check_launch("peer_send");
}

void receive_channel_piece(std::byte* to, std::size_t bytes, std::uint64_t number,
                           const Peers& peers, Stream stream) {
  peer_receive<<<blocks_of(bytes), threads, 0, stream_outside_graphs(stream)>>>(to, bytes, number,
                                                                                peers);
  check_launch("peer_receive");
}

}  // namespace millrace::cuda
