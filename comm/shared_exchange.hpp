// Tensors between ranks of one host through memory that they share. A send has copied its data away
// when it returns, so that the sender may compute for as long as it likes while the receiver reads;
// a reduction is done by all ranks at once, each on its own part.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <vector>

#include "comm/shared_segment.hpp"
#include "comm/shared_sync.hpp"
#include "comm/transport.hpp"

namespace millrace {

class SharedExchange {
 public:
  // nullptr on all ranks when the ranks cannot share memory. Collective over `comm`, whose ranks
  // are on one host.
  static std::unique_ptr<SharedExchange> make(HostTransport& comm);

  // In rank order, as Comm::all_reduce_sum says. T: float, int32, int64.
  template <typename T>
  void all_reduce(T* x, std::size_t count, ReduceOp op);
  // `in` may be this rank's part of `out`.
  void all_gather(std::byte* out, const std::byte* in, std::size_t bytes);
  void broadcast(std::byte* x, std::size_t bytes, int root);
  // Waits only while the receiver is 64 pieces of 256 KiB behind.
  void send(const std::byte* data, std::size_t bytes, int peer);
  void recv(std::byte* data, std::size_t bytes, int peer);

 private:
  // One piece of a message: in a slot of the channel, or, when a long message would not fit, all of
  // it in a memory file of the sender's.
  struct Piece {
    std::uint64_t bytes = 0;
    std::uint32_t slot = 0;
    std::int32_t descriptor = -1;  // of the file in process sender_process
  };
  static constexpr std::uint32_t channel_slots = 64;
  static constexpr std::size_t slot_bytes = 256 * 1024;

  // The way from one rank to another, in shared memory.
  struct Channel {
    SharedCounter written;  // pieces
    SharedCounter read;
    std::uint64_t sender_process;
    Piece pieces[channel_slots];
  };
  // What the sender keeps to itself.
  struct Sender {
    std::uint32_t next_slot = 0;
    std::deque<std::pair<std::uint32_t, MemoryFile>>
        files;  // and the count of `read` that frees each
  };

  SharedExchange(SharedSegment segment, int rank, int size);
  static std::size_t segment_bytes(int size);

  SharedCounter& arrived(int rank) const;
  // The place where `rank` shows its part of the current operation.
  std::byte* board(int rank) const;
  Channel& channel(int from, int to) const;
  std::byte* slot(int from, int to, std::uint32_t index) const;

  // An operation alternates between two boards of each rank. A board is written again two
  // operations later, when every rank has arrived at the operation between, and so has left the
  // first.
  void begin_operation();
  void arrive();            // what this rank wrote is there for the others
  void wait_for(int rank);  // ... and theirs for this one
  void wait_for_all();

  template <typename T>
  void reduce_piece(T* x, std::size_t count, ReduceOp op);
  void push(Channel& to, Sender& sender, int peer, const std::byte* data, std::size_t bytes);
  void push_as_file(Channel& to, Sender& sender, const std::byte* data, std::size_t bytes);

  SharedSegment segment_;
  int rank_;
  int size_;
  std::uint32_t arrivals_ = 0;
  bool odd_operation_ = false;
  std::vector<Sender> senders_;             // by receiving rank
  std::vector<std::uint32_t> pieces_read_;  // by sending rank
};

}  // namespace millrace
