#include "comm/mpi_reducer.hpp"

#include <algorithm>

#include "comm/mpi_check.hpp"
#include "comm/mpi_send.hpp"
#include "kernels/base/check.hpp"

namespace millrace {
namespace {

// Below this many bytes of all contributions together, every rank sums everything itself.
constexpr std::size_t small_bytes = 64 * 1024;

float combine(float a, float b, ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return a + b;
    case ReduceOp::min:
      return std::min(a, b);
    case ReduceOp::max:
      return std::max(a, b);
  }
  return a;
}

void reduce_integers(void* x, std::size_t count, MPI_Datatype type, ReduceOp op, MPI_Comm comm) {
  check(count <= mpi_piece_bytes, "all_reduce", "more than 2^30 elements");
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, x, static_cast<int>(count), type, mpi_op(op), comm),
            "MPI_Allreduce");
}

}  // namespace

MPI_Op mpi_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return MPI_SUM;
    case ReduceOp::min:
      return MPI_MIN;
    case ReduceOp::max:
      return MPI_MAX;
  }
  return MPI_OP_NULL;
}

MpiReducer::MpiReducer(MPI_Comm comm) : comm_(comm) {
  int rank = 0;
  int size = 1;
  check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm, &size), "MPI_Comm_size");
  rank_ = static_cast<std::size_t>(rank);
  size_ = static_cast<std::size_t>(size);
}

void MpiReducer::reduce(std::int32_t* x, std::size_t count, ReduceOp op) {
  reduce_integers(x, count, MPI_INT32_T, op, comm_);
}

void MpiReducer::reduce(std::int64_t* x, std::size_t count, ReduceOp op) {
  reduce_integers(x, count, MPI_INT64_T, op, comm_);
}

void MpiReducer::reduce(float* x, std::size_t count, ReduceOp op) {
  if (count * size_ * sizeof(float) <= small_bytes) {
    const int floats = static_cast<int>(count);
    scratch_.resize(count * size_);
    check_mpi(MPI_Allgather(x, floats, MPI_FLOAT, scratch_.data(), floats, MPI_FLOAT, comm_),
              "MPI_Allgather");
    return combine_rows(scratch_.data(), count, x, op);
  }
  // Each rank sums one part of everybody's vector, then the sums are gathered. Parts are equal; the
  // last is padded.
  const std::size_t part = (count + size_ - 1) / size_;
  check(part * size_ <= mpi_piece_bytes / sizeof(float), "all_reduce", "more than 1 GiB");
  padded_.resize(part * size_);
  scratch_.resize(part * size_);
  std::copy_n(x, count, padded_.data());
  std::fill(padded_.begin() + static_cast<std::ptrdiff_t>(count), padded_.end(), 0.0F);
  const int floats = static_cast<int>(part);
  check_mpi(
      MPI_Alltoall(padded_.data(), floats, MPI_FLOAT, scratch_.data(), floats, MPI_FLOAT, comm_),
      "MPI_Alltoall");
  combine_rows(scratch_.data(), part, padded_.data() + part * rank_, op);
  check_mpi(
      MPI_Allgather(MPI_IN_PLACE, floats, MPI_FLOAT, padded_.data(), floats, MPI_FLOAT, comm_),
      "MPI_Allgather");
  std::copy_n(padded_.data(), count, x);
}

// out[i] = rows[0][i] op rows[1][i] op ..., from the left; rows [size, count].
void MpiReducer::combine_rows(const float* rows, std::size_t count, float* out, ReduceOp op) const {
  std::copy_n(rows, count, out);
  for (std::size_t rank = 1; rank < size_; ++rank) {
    const float* row = rows + rank * count;
    for (std::size_t i = 0; i < count; ++i) out[i] = combine(out[i], row[i], op);
  }
}

}  // namespace millrace
