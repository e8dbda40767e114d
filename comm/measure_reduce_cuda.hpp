// Times the ways of an all-reduce on the GPUs at hand, for a fraction of a second at start-up.
#pragma once

#include <functional>
#include <string>

#include "comm/comm.hpp"
#include "comm/reduce_way.hpp"
#include "kernels/norm.hpp"

namespace millrace::cuda {

// What is to be timed. Each call enqueues and returns.
struct ReduceCalls {
  std::function<void(ReduceWay, const TensorView& x, Stream)> all_reduce;
  std::function<void(ReduceWay, const LinearInput& out, const TensorView& residual,
                     const TensorView& x, const NormWeights& weights, Stream)>
      all_reduce_add_norm;
};

struct MeasuredReduce {
  ReduceChoice plain;
  ReduceChoice with_norm;
  std::string obstacle;  // why NCCL is all there is; "" otherwise
};

// Collective over `comm`; the same on all ranks. Sums of known numbers are checked first: where a
// way of our own gives another sum, NCCL is chosen throughout.
MeasuredReduce measure_reduce(const Comm& comm, Device device, const ReduceCalls& calls);

// Microseconds of one call when calls follow each other in a graph, on the slowest rank: the
// smallest of `rounds` replays of `calls` calls; of a call that takes milliseconds, that of one by
// itself. Collective.
double graph_microseconds(const Comm& comm, Stream stream, int calls, int rounds,
                          const std::function<void()>& call);

}  // namespace millrace::cuda
