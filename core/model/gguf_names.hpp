// GGUF's names of weights, which are the same for every architecture.
#pragma once

#include <string>

#include "core/model/tensor_spec.hpp"

namespace millrace {

// "blk.3.attn_q.weight". Throws std::logic_error for a role that GGUF has no name for.
std::string gguf_name(const TensorSpec& tensor);

}  // namespace millrace
