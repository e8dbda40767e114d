// A send that MPI has under way, and the pieces that long messages go in.
#pragma once

#include <mpi.h>

#include <algorithm>
#include <vector>

#include "comm/transport.hpp"

namespace millrace {

class SendProgress;

// MPI counts are ints: longer tensors go in pieces of this many bytes.
constexpr std::size_t mpi_piece_bytes = std::size_t{1} << 30;

// Calls move(pointer, count) for each piece of a byte range.
template <typename Move>
void in_mpi_pieces(void* data, std::size_t bytes, Move&& move) {
  auto* begin = static_cast<std::byte*>(data);
  for (std::size_t done = 0; done < bytes; done += mpi_piece_bytes) {
    move(begin + done, static_cast<int>(std::min(mpi_piece_bytes, bytes - done)));
  }
}

// The count of a host message. Throws ShapeError when it is longer than a piece.
int mpi_count(std::size_t bytes, const char* op);

class MpiSend final : public PendingSend {
 public:
  // A tensor, which lives until the send is done. `progress` is null for messages that need none.
  MpiSend(const TensorView& x, int peer, int tag, MPI_Comm comm, SendProgress* progress);
  // A byte message, which lives in this.
  MpiSend(Bytes bytes, int peer, int tag, MPI_Comm comm, SendProgress* progress);
  ~MpiSend() override;
  MpiSend(const MpiSend&) = delete;
  MpiSend& operator=(const MpiSend&) = delete;

  bool done() override;
  void wait() override;

 private:
  SendProgress* progress_ = nullptr;
  Bytes bytes_;
  std::vector<MPI_Request> requests_;
};

}  // namespace millrace
