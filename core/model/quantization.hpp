// fp8 weights: which matrices of a model are fp8, and where their scales come from. The matrices of
// the layers can be; embeddings, output head, norms and biases stay as they are.
//
// Checkpoints: compressed-tensors (quant_method "compressed-tensors"), whose format
// "float-quantized" has weight_scale per channel, per tensor or per 128 x 128 block; and
// quant_method "fp8", with weight_scale per tensor or, with weight_block_size, weight_scale_inv per
// block (DeepSeek, Qwen). A scale multiplies the stored element, under either name. Scales of keys
// and values (kv_cache_scheme) have no use: a cache in 16 bits needs none, one in fp8 has scale 1.
#pragma once

#include "core/model/config.hpp"
#include "core/model/tensor_spec.hpp"

namespace millrace {

// Marks the tensors of `model` that its config's quantization_config says are stored as fp8; does
// nothing without one. Throws UserError naming the scheme when it is not supported.
void read_quantization(const Config& config, ModelDescription& model);

// --quantization fp8: the layers' matrices become fp8 when they are loaded. A checkpoint that is in
// fp8 stays as it is.
void quantize_at_load(ModelDescription& model);

}  // namespace millrace
