// Causal attention over a paged KV cache, for prefill chunks and decode steps in one batch.
#pragma once

#include <cstdint>

#include "kernels/base/stream.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

// Which rows of q belong to which sequence, and where the sequence's keys lie. A sequence of query
// length Q and kv length L has its query i at position L - Q + i; its own keys are in the cache
// already. The arrays are on the device; the three numbers are the host's bounds for choosing a
// launch (they bound the arrays' values, and never change the result).
struct AttentionBatch {
  TensorView
      query_starts;  // [sequences + 1] i32: rows [starts[s], starts[s + 1]) of q; starts[0] = 0
  TensorView kv_lengths;  // [sequences] i32, Q <= L; L = 0 marks an unused place of a padded batch
  TensorView block_tables;  // [sequences, max_blocks] i32: block of keys [b * block_size, ...)
  int max_query_length = 0;
  int max_kv_length = 0;
  int decode_sequences = 0;  // how many leading sequences have query length 1
};

struct AttentionParams {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  // divides heads; query head h reads KV head h / (heads / kv_heads)
  std::int64_t head_dim = 0;
  float scale = 1;
  int window = 0;     // > 0: a query at p sees keys (p - window, p] only
  float softcap = 0;  // > 0: scores become softcap * tanh(score / softcap)
};

// out[i, h] = softmax over visible keys j of (scale * q[i, h] . k[j, kv(h)]) times v[j, kv(h)]
//   out, q   [tokens, heads * head_dim] activations; rows may be strided (q is a view into qkv)
//   k_cache, v_cache  [blocks, kv_heads, block_size, head_dim], contiguous; f32, bf16, f16 or
//   fp8_e4m3
// A query at position p sees keys 0..p; one that sees none (L = 0) gets zeros. Rows at and beyond
// query_starts[sequences] are left alone or become zeros. Sums are f32. On the CPU a row's bits
// depend neither on the batch it is in nor on how its prompt was cut into chunks. On CUDA the
// batch's arrays, and keys older than a sequence's newest, may be read while the op before this one
// on the stream still runs (kernels/base/cuda_launch.cuh): they are constants of the step.
// arXiv:2309.06180 (paging), arXiv:2205.14135.
void paged_attention(const TensorView& out, const TensorView& q, const TensorView& k_cache,
                     const TensorView& v_cache, const AttentionBatch& batch,
                     const AttentionParams& params, Stream stream);

namespace cpu {
decltype(millrace::paged_attention) paged_attention;
// The oracle: scores of one query at a time, softmax, weighted sum.
decltype(millrace::paged_attention) paged_attention_plain;
}  // namespace cpu
namespace cuda {
decltype(millrace::paged_attention) paged_attention;
}  // namespace cuda

}  // namespace millrace
