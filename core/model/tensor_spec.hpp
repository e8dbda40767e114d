// The table that says where each weight lies in a checkpoint and how tensor ranks cut it. A family
// writes it once; the loader and the memory arithmetic read it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/model/model_spec.hpp"

namespace millrace {

enum class WeightRole : std::uint8_t {
  token_embedding,
  position_embedding,
  project_in,
  project_out,
  final_norm,
  final_norm_bias,
  lm_head,
  // Of a layer:
  attention_norm,
  attention_norm_bias,
  q,
  q_bias,
  k,
  k_bias,
  v,
  v_bias,
  q_norm,
  k_norm,
  o,
  o_bias,
  mlp_norm,
  mlp_norm_bias,
  gate,
  gate_bias,
  up,
  up_bias,
  down,
  down_bias,
};

// Which part of a tensor a tensor rank holds. Rows are output features.
enum class Cut : std::uint8_t {
  none,               // all of it, on every tensor rank
  q_heads,            // rows: query heads x head_dim
  kv_heads,           // rows: KV heads x head_dim
  o_inputs,           // columns: query heads x head_dim
  intermediate_rows,  // rows of the MLP's inner dimension
  intermediate_columns,
  vocab,            // rows of the vocabulary
  first_rank_only,  // a bias that is added once, before the all-reduce: tensor rank 0 has it
};

// How a matrix comes to be fp8 on its device, if it does.
enum class Fp8Source : std::uint8_t {
  none,
  at_load,   // quantized when it is loaded, an output feature at a time
  channels,  // the checkpoint's elements, with a scale for each row or one for all of it
  blocks,    // the checkpoint's elements, with a scale for each 128 x 128
};

struct TensorSpec {
  std::string name;  // in the checkpoint, without an optional prefix
  WeightRole role = WeightRole::token_embedding;
  int layer = -1;  // -1: not of a layer
  // The weight as the model uses it: [rows] or [rows, columns], row = output feature.
  std::vector<std::int64_t> shape;
  Cut cut = Cut::none;
  // The checkpoint stores [columns, rows] (GPT-2's Conv1D).
  bool transposed = false;
  // The weight is rows [row_offset, row_offset + shape[0]) of a tensor with this many rows that the
  // checkpoint stores fused (GPT-2's c_attn); 0: the tensor is the weight.
  std::int64_t row_offset = 0;
  std::int64_t fused_rows = 0;
  // Each head's rows are stored as (0, half, 1, half + 1, ...), for a rotation of neighbouring
  // pairs (llama's q and k in GGUF); the loader brings them to halves.
  int interleaved_head_dim = 0;  // 0: not
  Fp8Source fp8 = Fp8Source::none;
  // The tensors with the scales of an fp8 checkpoint's weight, and with the fixed one of its inputs
  // (empty: each row of activations has its own).
  std::string scale_name;
  std::string input_scale_name;

  bool is_stored_as_fp8() const { return fp8 == Fp8Source::channels || fp8 == Fp8Source::blocks; }
};

// A model as the rest of the program knows it.
struct ModelDescription {
  ModelSpec spec;
  std::vector<TensorSpec> tensors;
  // What may stand before every name ("transformer."); the loader takes the first that fits.
  std::vector<std::string> name_prefixes{""};
};

}  // namespace millrace
