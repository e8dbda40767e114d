#include "comm/mpi_send.hpp"

#include <chrono>
#include <exception>

#include "comm/backoff.hpp"
#include "comm/mpi_check.hpp"
#include "comm/send_progress.hpp"
#include "kernels/base/check.hpp"

namespace millrace {

int mpi_count(std::size_t bytes, const char* op) {
  check(bytes <= mpi_piece_bytes, op, "a host message is longer than 1 GiB");
  return static_cast<int>(bytes);
}

MpiSend::MpiSend(const TensorView& x, int peer, int tag, MPI_Comm comm, SendProgress* progress)
    : progress_(progress) {
  in_mpi_pieces(x.data(), x.bytes(), [&](std::byte* piece, int count) {
    requests_.push_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Isend(piece, count, MPI_BYTE, peer, tag, comm, &requests_.back()), "MPI_Isend");
  });
  if (progress_ != nullptr) progress_->began();
}

MpiSend::MpiSend(Bytes bytes, int peer, int tag, MPI_Comm comm, SendProgress* progress)
    : progress_(progress), bytes_(std::move(bytes)) {
  requests_.push_back(MPI_REQUEST_NULL);
  check_mpi(MPI_Isend(bytes_.data(), mpi_count(bytes_.size(), "send_bytes"), MPI_BYTE, peer, tag,
                      comm, &requests_.back()),
            "MPI_Isend");
  if (progress_ != nullptr) progress_->began();
}

MpiSend::~MpiSend() {
  if (std::uncaught_exceptions() == 0) {
    wait();
    return;
  }
  if (!bytes_.empty()) new Bytes(std::move(bytes_));  // MPI may read them still: never freed
  if (progress_ != nullptr) progress_->done();
}

bool MpiSend::done() {
  int flag = 0;
  check_mpi(
      MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &flag, MPI_STATUSES_IGNORE),
      "MPI_Testall");
  if (flag != 0 && progress_ != nullptr) {
    progress_->done();
    progress_ = nullptr;
  }
  return flag != 0;
}

void MpiSend::wait() {
  Backoff backoff(std::chrono::microseconds(200));
  while (!done()) backoff.pause();
}

}  // namespace millrace
