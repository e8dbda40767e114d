// all_reduce_add_norm() of a batch in two halves, where there is a way to carry sums while the
// device computes: the sum of one half runs beside the product that makes the other, and beside the
// product that reads the first. Where there is none, the whole batch is one part and is summed at
// once.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "comm/comm.hpp"
#include "kernels/norm.hpp"

namespace millrace {

class SumInParts {
 public:
  struct Rows {
    std::size_t part;  // 0, 1
    std::int64_t begin;
    std::int64_t count;

    TensorView of(const TensorView& batch) const { return batch.slice(0, begin, count); }
  };

  // Of the largest part of a batch of at most `rows`; 0 when such a batch is never cut.
  static std::size_t largest_part_bytes(std::int64_t rows, std::size_t row_bytes);

  // For sums of the rows of `x` [tokens, hidden], contiguous. The same on all ranks.
  SumInParts(const Comm& comm, const TensorView& x, Stream stream);

  const std::vector<Rows>& parts() const { return parts_; }

  // all_reduce_add_norm() of one part. Parts take turns; what was added before is in the stream
  // when this returns, what is added now when the next is, or after wait_for(). Views of `weights`
  // outlive that.
  void add(const Rows& part, const LinearInput& out, const TensorView& residual,
           const TensorView& x, const NormWeights& weights, Stream stream);
  // The last sum of this part is in the stream when it returns.
  void wait_for(const Rows& part, Stream stream);

 private:
  struct Pending {
    std::size_t part;
    LinearInput out;
    TensorView residual;
    TensorView x;
    NormWeights weights;
  };
  void finish(Stream stream);

  const Comm& comm_;
  SumCarrier* carrier_;  // nullptr: one part
  std::vector<Rows> parts_;
  std::optional<Pending> pending_;
};

}  // namespace millrace
