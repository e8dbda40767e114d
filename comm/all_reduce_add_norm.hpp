// The step between two halves of a transformer layer under tensor parallelism: complete the partial
// sums, add them to the residual stream, normalise. One op, so that a backend may fuse it.
#pragma once

#include "comm/comm.hpp"
#include "kernels/norm.hpp"

namespace millrace {

// residual += sum over ranks of x; out = norm(residual). All [tokens, hidden]; `x` is this rank's
// partial sum, and scratch afterwards. See add_norm() for dtypes and for a quantized out.
void all_reduce_add_norm(const Comm& comm, const LinearInput& out, const TensorView& residual,
                         const TensorView& x, const NormWeights& weights, Stream stream);

}  // namespace millrace
