// What happens to a layer's fused projection before attention: optional norm of each query and key
// head, rotary embedding, and the write of keys and values into the paged cache.
#pragma once

#include <cstdint>

#include "kernels/base/stream.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

// Local sizes on this rank. A row of qkv is [heads | kv_heads (keys) | kv_heads (values)] x
// head_dim.
struct QkvShape {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;

  std::int64_t width() const { return (heads + 2 * kv_heads) * head_dim; }
};

// RMS norm of every query and key head over head_dim (Qwen3, Gemma 3), before the rotation. Weights
// are [head_dim] in the activations' dtype; both empty for models without.
struct QkNorm {
  TensorView q_weight;
  TensorView k_weight;
  float eps = 1e-6F;
  float weight_offset = 0;
};

// For each token t at position p = positions[t]:
//   1. q and k heads are normalised (if qk_norm has weights);
//   2. the first rotary_dim elements of each q and k head are rotated, pairing element i with
//      i + rotary_dim / 2 (the NeoX order; loaders permute checkpoints that interleave):
//        a' = a * cos_i - b * sin_i,  b' = b * cos_i + a * sin_i          arXiv:2104.09864
//   3. q goes back into qkv; k and v go to k_cache and v_cache at slots[t]. (k and v inside qkv are
//      scratch afterwards: a backend may or may not update them.)
//
//   qkv       [tokens, shape.width()] activations, rows may be strided; in-out
//   rope      [max_positions, rotary_dim] f32: row p is cos_0..cos_{r/2-1}, sin_0..sin_{r/2-1},
//             with any attention factor multiplied in; empty for models without rotary positions
//   positions [tokens] i32
//   slots     [tokens] i32: block * block_size + offset within the block; negative writes nothing
//   k_cache, v_cache [blocks, kv_heads, block_size, head_dim], contiguous; f32, bf16, f16 or
//             fp8_e4m3 (rounded to nearest even; fp8 has scale 1 and saturates at 448)
// On CUDA positions, slots and rope may be read while the op before this one on the stream still
// runs (kernels/base/cuda_launch.cuh): they are constants of the step.
void qkv_to_cache(const TensorView& qkv, const QkvShape& shape, const TensorView& rope,
                  const TensorView& positions, const TensorView& slots, const QkNorm& qk_norm,
                  const TensorView& k_cache, const TensorView& v_cache, Stream stream);

namespace cpu {
decltype(millrace::qkv_to_cache) qkv_to_cache;
}  // namespace cpu
namespace cuda {
decltype(millrace::qkv_to_cache) qkv_to_cache;
}  // namespace cuda

}  // namespace millrace
