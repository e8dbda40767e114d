// From a checkpoint to the weights of one rank, packed for its device. Only the bytes of the rank's
// own slices are read, or, together with other ranks, each byte by one of them. Beside the result
// two fused tensors are held at a time: one is read while the other is packed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/model/partition.hpp"
#include "core/model/tensor_spec.hpp"
#include "core/weights/checkpoint.hpp"
#include "core/weights/load_peers.hpp"
#include "kernels/base/tensor.hpp"
#include "kernels/linear.hpp"
#include "kernels/norm.hpp"
#include "kernels/rope_cache.hpp"

namespace millrace {

// Sizes are this rank's: heads and kv_heads of its LayerSlice, `inner` its intermediate.count.
struct LayerWeights {
  NormWeights attention_norm;  // [hidden]
  LinearWeight qkv;      // [(heads + 2 * kv_heads) * head_dim, hidden]: q rows, k rows, v rows
  TensorView qkv_bias;   // [(heads + 2 * kv_heads) * head_dim]; empty: none
  QkNorm qk_norm;        // [head_dim] each; empty: none
  LinearWeight o;        // [hidden, heads * head_dim]; a partial sum over tensor ranks
  TensorView o_bias;     // [hidden]; on tensor rank 0 only; empty: none
  NormWeights mlp_norm;  // [hidden]
  LinearWeight up;       // [inner, hidden]; gated: [2 * inner, hidden], gate rows before up rows
  TensorView up_bias;    // [inner] or [2 * inner]; empty: none
  LinearWeight down;     // [hidden, inner]; a partial sum over tensor ranks
  TensorView down_bias;  // [hidden]; on tensor rank 0 only; empty: none
};

struct LoadReport {
  std::int64_t bytes_read = 0;    // from files
  std::int64_t weight_bytes = 0;  // held on the device, as weight_bytes() of memory.hpp predicts
  double seconds = 0.0;
};

struct RankWeights {
  // First stage, and last stage when tied: [vocab_padded, embedding_size], rows from vocab.count on
  // are zeros.
  LinearWeight token_embedding;
  TensorView
      position_embedding;   // [max_position_embeddings + position_offset, hidden]; first stage
  LinearWeight project_in;  // [hidden, embedding_size]; first stage, when the sizes differ
  std::vector<LayerWeights> layers;
  NormWeights final_norm;    // [hidden]; last stage, when the model has one
  LinearWeight project_out;  // [embedding_size, hidden]; last stage, when the sizes differ
  LinearWeight untied_head;  // [vocab_padded, embedding_size]; last stage, when not tied
  TensorView rope_table;     // [max_positions, rotary_dim] f32, cosines then sines; empty: none
  bool tied = false;

  // The table of the output head: rows from vocab.count on are zeros, their logits mean nothing.
  const LinearWeight& lm_head() const { return tied ? token_embedding : untied_head; }

  LoadReport report;
  std::vector<Tensor> storage;  // what the views point into
};

struct LoadOptions {
  DType dtype = DType::f32;        // of the matrices that are not fp8: f32, f16 or bf16
  Device device;                   // where the weights go
  std::int64_t max_positions = 0;  // rows of the rope table: --max-model-len
  // Read at a time, on the way to a GPU or to other ranks: large enough for any file system, small
  // enough that memory for several is quickly pinned.
  std::int64_t piece_bytes = std::int64_t{64} << 20;
  const LoadPeers* peers = nullptr;  // read each byte once among these; null: read alone
};

// Throws UserError naming the checkpoint and the tensor when one is missing, has another shape, or
// its file is truncated. With peers it is collective over them; what is wrong before anything is
// read is thrown by all of them. A rank that fails later serves the others to the end of its layer
// and throws; they return without the layers after that, so that callers agree() on the outcome.
RankWeights load_weights(const ModelDescription& model, Checkpoint& checkpoint,
                         const RankSlices& slices, const LoadOptions& options, Stream stream);

}  // namespace millrace
