// The block formats of GGUF's quantized tensors, one block to f32. Scales are f16 in the file;
// every product is f32. Layouts as described by ggml's block_q* structures (MIT) and the PyPI
// package gguf, against which test/core/weights checks each of them.
#pragma once

#include <cstddef>

#include "core/weights/storage_type.hpp"

namespace millrace {

// `to` receives block_elements(type) values. `type` is one of the q* kinds.
void dequantize_block(StorageType type, const std::byte* block, float* to);

}  // namespace millrace
