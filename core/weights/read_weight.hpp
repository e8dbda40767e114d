// One weight of the tensor table out of a checkpoint: found by name, held to its shape, and brought
// from the checkpoint's layout (transposed, fused, rows interleaved) to the model's.
#pragma once

#include <string>
#include <vector>

#include "core/model/tensor_slice.hpp"
#include "core/weights/checkpoint.hpp"

namespace millrace {

// The stored tensor that holds `weight`, under the first prefix that fits. Throws UserError naming
// the checkpoint and the tensor when there is none, when it has another shape, or when it is fp8
// and the config says otherwise.
const CheckpointTensor& find_weight(const Checkpoint& checkpoint, const TensorSpec& weight,
                                    const std::vector<std::string>& prefixes);

// Reads a slice of a weight into host memory `out` [rows, columns].
void read_weight(Checkpoint& checkpoint, const CheckpointTensor& stored, const TensorSpec& weight,
                 const TensorSlice& slice, const TensorView& out);

// What read_weight() gives, made in memory of the stream's device. For weights whose rows are not
// interleaved.
void make_weight(const WeightMaker& maker, const CheckpointTensor& stored, const TensorSpec& weight,
                 const TensorSlice& slice, const TensorView& out, Stream stream);

}  // namespace millrace
