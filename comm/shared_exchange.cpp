#include "comm/shared_exchange.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace millrace {
namespace {

constexpr std::size_t page_bytes = 4096;
constexpr std::size_t board_bytes = 256 * 1024;
// Up to so many bytes of all ranks together every rank reduces everything itself: one wait, not
// two.
constexpr std::size_t reduce_alone_bytes = 32 * 1024;

constexpr std::size_t whole_pages(std::size_t bytes) {
  return (bytes + page_bytes - 1) / page_bytes * page_bytes;
}

template <typename T>
void combine(T* out, const T* in, std::size_t count, ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      for (std::size_t i = 0; i < count; ++i) out[i] += in[i];
      return;
    case ReduceOp::min:
      for (std::size_t i = 0; i < count; ++i) out[i] = std::min(out[i], in[i]);
      return;
    case ReduceOp::max:
      for (std::size_t i = 0; i < count; ++i) out[i] = std::max(out[i], in[i]);
      return;
  }
}

}  // namespace

std::unique_ptr<SharedExchange> SharedExchange::make(HostTransport& comm) {
  auto segment = share_segment(comm, segment_bytes(comm.size()));
  if (!segment) return nullptr;
  return std::unique_ptr<SharedExchange>(
      new SharedExchange(std::move(*segment), comm.rank(), comm.size()));
}

SharedExchange::SharedExchange(SharedSegment segment, int rank, int size)
    : segment_(std::move(segment)),
      rank_(rank),
      size_(size),
      senders_(static_cast<std::size_t>(size)),
      pieces_read_(static_cast<std::size_t>(size)) {
  for (int peer = 0; peer < size; ++peer) {
    channel(rank, peer).sender_process = static_cast<std::uint64_t>(getpid());
  }
}

// The segment: a page of the segment's own, arrivals [size], boards [2, size], channels [size,
// size], slots [size, size, channel_slots]. All but the arrivals lie at whole pages.

namespace {

constexpr std::size_t arrivals_bytes(std::size_t size) {
  return whole_pages(size * sizeof(SharedCounter));
}
constexpr std::size_t boards_bytes(std::size_t size) { return 2 * size * board_bytes; }

}  // namespace

std::size_t SharedExchange::segment_bytes(int size) {
  const auto ranks = static_cast<std::size_t>(size);
  return page_bytes + arrivals_bytes(ranks) + boards_bytes(ranks) +
         ranks * ranks * (whole_pages(sizeof(Channel)) + channel_slots * slot_bytes);
}

SharedCounter& SharedExchange::arrived(int rank) const {
  return reinterpret_cast<SharedCounter*>(segment_.data() + page_bytes)[rank];
}

std::byte* SharedExchange::board(int rank) const {
  const auto ranks = static_cast<std::size_t>(size_);
  const std::size_t index = static_cast<std::size_t>(rank) + (odd_operation_ ? ranks : 0);
  return segment_.data() + page_bytes + arrivals_bytes(ranks) + index * board_bytes;
}

SharedExchange::Channel& SharedExchange::channel(int from, int to) const {
  const auto ranks = static_cast<std::size_t>(size_);
  const std::size_t index = static_cast<std::size_t>(from) * ranks + static_cast<std::size_t>(to);
  return *reinterpret_cast<Channel*>(segment_.data() + page_bytes + arrivals_bytes(ranks) +
                                     boards_bytes(ranks) + index * whole_pages(sizeof(Channel)));
}

std::byte* SharedExchange::slot(int from, int to, std::uint32_t index) const {
  const auto ranks = static_cast<std::size_t>(size_);
  const std::size_t pair = static_cast<std::size_t>(from) * ranks + static_cast<std::size_t>(to);
  return segment_.data() + page_bytes + arrivals_bytes(ranks) + boards_bytes(ranks) +
         ranks * ranks * whole_pages(sizeof(Channel)) + (pair * channel_slots + index) * slot_bytes;
}

void SharedExchange::begin_operation() {
  // Where a rank has not waited for all others in the last operation (a broadcast's root).
  for (int rank = 0; rank < size_; ++rank) arrived(rank).wait_for(arrivals_);
  odd_operation_ = !odd_operation_;
}

void SharedExchange::arrive() { arrived(rank_).raise_to(++arrivals_); }

void SharedExchange::wait_for(int rank) { arrived(rank).wait_for(arrivals_); }

void SharedExchange::wait_for_all() {
  for (int rank = 0; rank < size_; ++rank) wait_for(rank);
}

template <typename T>
void SharedExchange::all_reduce(T* x, std::size_t count, ReduceOp op) {
  constexpr std::size_t most = board_bytes / sizeof(T);
  for (std::size_t done = 0; done < count; done += most) {
    reduce_piece(x + done, std::min(most, count - done), op);
  }
}

template <typename T>
void SharedExchange::reduce_piece(T* x, std::size_t count, ReduceOp op) {
  const auto ranks = static_cast<std::size_t>(size_);
  begin_operation();
  const auto on_board = [this](int rank) { return reinterpret_cast<T*>(board(rank)); };
  std::copy_n(x, count, on_board(rank_));
  arrive();
  wait_for_all();
  if (count * sizeof(T) * ranks <= reduce_alone_bytes) {
    std::copy_n(on_board(0), count, x);
    for (int rank = 1; rank < size_; ++rank) combine(x, on_board(rank), count, op);
    return;
  }
  // Each rank reduces one part, in x, and shows it on its board, where nobody else reads that part.
  const std::size_t part = (count + ranks - 1) / ranks;
  const auto begin_of = [&](int rank) {
    return std::min(count, part * static_cast<std::size_t>(rank));
  };
  const std::size_t begin = begin_of(rank_);
  const std::size_t length = begin_of(rank_ + 1) - begin;
  std::copy_n(on_board(0) + begin, length, x + begin);
  for (int rank = 1; rank < size_; ++rank) combine(x + begin, on_board(rank) + begin, length, op);
  std::copy_n(x + begin, length, on_board(rank_) + begin);
  arrive();
  for (int step = 1; step < size_; ++step) {
    const int rank = (rank_ + step) % size_;
    wait_for(rank);
    std::copy(on_board(rank) + begin_of(rank), on_board(rank) + begin_of(rank + 1),
              x + begin_of(rank));
  }
}

template void SharedExchange::all_reduce(float*, std::size_t, ReduceOp);
template void SharedExchange::all_reduce(std::int32_t*, std::size_t, ReduceOp);
template void SharedExchange::all_reduce(std::int64_t*, std::size_t, ReduceOp);

void SharedExchange::all_gather(std::byte* out, const std::byte* in, std::size_t bytes) {
  for (std::size_t done = 0; done < bytes; done += board_bytes) {
    const std::size_t length = std::min(board_bytes, bytes - done);
    begin_operation();
    std::memcpy(board(rank_), in + done, length);
    arrive();
    for (int step = 0; step < size_; ++step) {
      const int rank = (rank_ + step) % size_;
      std::byte* to = out + static_cast<std::size_t>(rank) * bytes + done;
      if (rank == rank_) {
        if (to != in + done) std::memcpy(to, in + done, length);
        continue;
      }
      wait_for(rank);
      std::memcpy(to, board(rank), length);
    }
  }
}

void SharedExchange::broadcast(std::byte* x, std::size_t bytes, int root) {
  for (std::size_t done = 0; done < bytes; done += board_bytes) {
    const std::size_t length = std::min(board_bytes, bytes - done);
    begin_operation();
    if (rank_ == root) std::memcpy(board(rank_), x + done, length);
    arrive();
    if (rank_ == root) continue;
    wait_for(root);
    std::memcpy(x + done, board(root), length);
  }
}

void SharedExchange::send(const std::byte* data, std::size_t bytes, int peer) {
  Channel& to = channel(rank_, peer);
  Sender& sender = senders_[static_cast<std::size_t>(peer)];
  while (!sender.files.empty() && to.read.has_reached(sender.files.front().first)) {
    sender.files.pop_front();
  }
  const std::uint32_t under_way = to.written.value() - to.read.value();
  // An empty channel begins at its first slot again, so that few pages are touched and they stay in
  // the caches.
  if (under_way == 0) sender.next_slot = 0;
  const std::size_t pieces = (bytes + slot_bytes - 1) / slot_bytes;
  if (pieces > channel_slots - under_way && pieces > 1) {
    push_as_file(to, sender, data, bytes);
    return;
  }
  for (std::size_t done = 0; done < bytes; done += slot_bytes) {
    push(to, sender, peer, data + done, std::min(slot_bytes, bytes - done));
  }
}

void SharedExchange::push(Channel& to, Sender& sender, int peer, const std::byte* data,
                          std::size_t bytes) {
  const std::uint32_t number = to.written.value();
  to.read.wait_for(number + 1 - channel_slots);
  std::memcpy(slot(rank_, peer, sender.next_slot), data, bytes);
  to.pieces[number % channel_slots] = {bytes, sender.next_slot, -1};
  sender.next_slot = (sender.next_slot + 1) % channel_slots;
  to.written.raise_to(number + 1);
}

void SharedExchange::push_as_file(Channel& to, Sender& sender, const std::byte* data,
                                  std::size_t bytes) {
  const std::uint32_t number = to.written.value();
  to.read.wait_for(number + 1 - channel_slots);
  MemoryFile file(bytes);
  const SharedSegment mapped(file, bytes);
  if (mapped.data() == nullptr) throw std::runtime_error("a memory file cannot be mapped");
  std::memcpy(mapped.data(), data, bytes);
  to.pieces[number % channel_slots] = {bytes, 0, file.descriptor()};
  sender.files.emplace_back(number + 1, std::move(file));
  to.written.raise_to(number + 1);
}

void SharedExchange::recv(std::byte* data, std::size_t bytes, int peer) {
  Channel& from = channel(peer, rank_);
  std::uint32_t& number = pieces_read_[static_cast<std::size_t>(peer)];
  std::size_t done = 0;
  while (done < bytes) {
    from.written.wait_for(number + 1);
    const Piece piece = from.pieces[number % channel_slots];
    if (piece.bytes > bytes - done) {
      throw std::logic_error("recv: the tensor that arrives is longer than the one that waits");
    }
    if (piece.descriptor < 0) {
      std::memcpy(data + done, slot(peer, rank_, piece.slot), piece.bytes);
    } else {
      const SharedSegment mapped(
          MemoryFile(static_cast<int>(from.sender_process), piece.descriptor), piece.bytes);
      if (mapped.data() == nullptr) {
        throw std::runtime_error("the sender's memory file cannot be read");
      }
      std::memcpy(data + done, mapped.data(), piece.bytes);
    }
    done += piece.bytes;
    from.read.raise_to(++number);
  }
}

}  // namespace millrace
