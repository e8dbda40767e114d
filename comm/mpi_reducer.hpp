// All-reduces of host memory over MPI, whose sums of floats run in rank order. Only comm's .cpp
// files include this.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "comm/reduce_way.hpp"

namespace millrace {

MPI_Op mpi_op(ReduceOp op);

class MpiReducer {
 public:
  // Does not own the communicator.
  explicit MpiReducer(MPI_Comm comm);

  // x[i] = ((r0 op r1) op r2) op ...
  void reduce(float* x, std::size_t count, ReduceOp op);
  // The same in any order.
  void reduce(std::int32_t* x, std::size_t count, ReduceOp op);
  void reduce(std::int64_t* x, std::size_t count, ReduceOp op);

 private:
  void combine_rows(const float* rows, std::size_t count, float* out, ReduceOp op) const;

  MPI_Comm comm_;
  std::size_t rank_ = 0;
  std::size_t size_ = 1;
  std::vector<float> scratch_;
  std::vector<float> padded_;
};

}  // namespace millrace
