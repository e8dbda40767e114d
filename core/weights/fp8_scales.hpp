// The scales of fp8 weights out of a checkpoint, brought to what pack_linear_fp8() takes.
#pragma once

#include <string>
#include <vector>

#include "core/weights/checkpoint.hpp"
#include "core/weights/weight_pipeline.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

struct Fp8Scales {
  Tensor weight;       // on the host, as LinearWeight::scales
  float input = 0.0F;  // 0: each row of activations has its own
};

// Of the matrix that holds these parts below one another; all are stored as fp8. Scales for a
// whole weight become scales of its rows, and the inputs of all parts share the largest fixed
// scale. Throws UserError naming the tensor when it is missing, has another shape, is no positive
// number, or when a slice cuts a scaled block.
Fp8Scales read_fp8_scales(Checkpoint& checkpoint, const std::vector<std::string>& prefixes,
                          const std::vector<WeightPart>& parts);

}  // namespace millrace
