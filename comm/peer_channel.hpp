// Messages from a rank to the next one of a communicator, and from the last to the first, through
// memory of the receiver that the sender has mapped. A send is done when the message lies there,
// whether or not the receiver has come to it: a pipeline stage goes on with its next micro-batch
// while the one before waits for its turn. Copies run in the stream of the caller; at the links'
// speed they take far less than a thousandth of a step's time, so a stream of their own, and with
// it a second set of activations and of graphs, would gain nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "comm/peer_memory.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace::cuda {

class PeerChannel {
 public:
  // How much memory each rank has to give.
  static std::size_t bytes();
  explicit PeerChannel(std::unique_ptr<PeerMemory> memory) : memory_(std::move(memory)) {}

  bool sends_to(int peer) const { return peer == neighbour(1); }
  bool receives_from(int peer) const { return peer == neighbour(-1); }

  // In the stream's order, and never inside a graph, since messages are numbered here (throws
  // std::logic_error). Messages of any size; while 8 pieces of 16 MiB are on their way, a send
  // waits on the device for the receiver.
  void send(const TensorView& x, Stream stream);
  void receive(const TensorView& x, Stream stream);

 private:
  int neighbour(int step) const {
    const Peers& peers = memory_->peers();
    return (peers.rank + peers.size + step) % peers.size;
  }

  std::unique_ptr<PeerMemory> memory_;
  std::uint64_t sent_ = 0;  // pieces so far
  std::uint64_t received_ = 0;
};

}  // namespace millrace::cuda
