// The model of a GGUF file: its metadata brought to config.json's words, described by the family
// that reads those, and the tensor table renamed to GGUF's names.
#pragma once

#include "core/model/tensor_spec.hpp"
#include "core/weights/gguf.hpp"

namespace millrace {

// Throws UserError naming the file: an architecture that is not known, missing or impossible keys.
ModelDescription describe_gguf(const GgufHeader& header);

}  // namespace millrace
