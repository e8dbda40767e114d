#include "comm/all_reduce_add_norm.hpp"

namespace millrace {

void all_reduce_add_norm(const Comm& comm, const LinearInput& out, const TensorView& residual,
                         const TensorView& x, const NormWeights& weights, Stream stream) {
  if (comm.try_all_reduce_add_norm(out, residual, x, weights, stream)) return;
  comm.all_reduce_sum(x, stream);
  add_norm(out, residual, x, weights, stream);
}

}  // namespace millrace
