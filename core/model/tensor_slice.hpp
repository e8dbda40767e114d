// The part of a weight that a rank holds, by the weight's row of the tensor table.
#pragma once

#include <optional>

#include "core/model/partition.hpp"
#include "core/model/tensor_spec.hpp"

namespace millrace {

// Of a vector the columns are [0, 1).
struct TensorSlice {
  Range rows;
  Range columns;
};

// Empty when the rank holds nothing of it: a layer of another stage, or what only the first or the
// last stage needs, or a bias that tensor rank 0 adds.
std::optional<TensorSlice> slice_of(const TensorSpec& tensor, const ModelSpec& spec,
                                    const RankSlices& rank);

}  // namespace millrace
