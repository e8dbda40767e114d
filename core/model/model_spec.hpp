// What a model is, as plain data: dimensions, and per layer what its attention and its MLP do.
// Families (core/model/families) make it from a config; partition, planner, loader and transformer
// read it and never ask for a model's name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/activation.hpp"
#include "kernels/base/dtype.hpp"
#include "kernels/linear_input.hpp"
#include "kernels/norm.hpp"

namespace millrace {

enum class PositionKind : std::uint8_t { none, rotary, learned };

// How rotary frequencies are stretched beyond the trained length; names as transformers' rope_type.
enum class RopeScaling : std::uint8_t { none, linear, dynamic, llama3, yarn };

struct RotarySpec {
  double theta = 10000.0;
  int rotary_dim = 0;  // leading elements of each head that turn; even
  RopeScaling scaling = RopeScaling::none;
  double factor = 1.0;
  std::int64_t original_max_positions = 0;  // the length the model was trained at

  double low_freq_factor = 1.0;  // llama3
  double high_freq_factor = 4.0;

  double beta_fast = 32.0;  // yarn
  double beta_slow = 1.0;
  std::optional<double> attention_factor;
  std::optional<double> mscale;
  std::optional<double> mscale_all_dim;
  bool truncate = true;

  // Divides the inverse frequencies, one per pair [rotary_dim / 2]; empty: none (GGUF's
  // rope_freqs).
  std::vector<float> frequency_factors;
};

struct AttentionSpec {
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 0.0F;    // softmax(scale * q k^T)
  int window = 0;        // a token sees this many positions, its own included; 0: all of them
  float softcap = 0.0F;  // scores become cap * tanh(score / cap); 0: not
  bool qkv_bias = false;
  bool o_bias = false;
  bool qk_norm = false;  // RMS norm over head_dim on q and k, before the rotation
};

struct MlpSpec {
  std::int64_t intermediate_size = 0;
  Activation activation = Activation::silu;
  bool gated = true;  // down(act(gate x) * up x), else down(act(up x))
  bool bias = false;
};

struct LayerSpec {
  // True: x += attention(norm(x)). False: x = norm(x + attention(x)). The MLP likewise.
  bool norm_before = true;
  AttentionSpec attention;
  MlpSpec mlp;
};

struct ModelSpec {
  std::string architecture;  // the config's word for it, for messages only
  std::int64_t hidden_size = 0;
  std::int64_t vocab_size = 0;
  std::int64_t max_position_embeddings = 0;
  // Width of the token embedding and of the head's input; where it is not hidden_size a projection
  // leads in and another out (OPT-350m).
  std::int64_t embedding_size = 0;
  float embedding_scale = 1.0F;  // multiplies the token embedding
  bool tied_embeddings = false;  // the head is the token embedding's table

  NormKind norm = NormKind::rms;
  float norm_eps = 1e-5F;
  float norm_weight_offset = 0.0F;  // added to a norm's weight (Gemma's 1)
  bool final_norm = true;

  PositionKind position = PositionKind::rotary;
  std::int64_t position_offset = 0;  // learned: position p uses row p + offset (OPT's 2)
  RotarySpec rotary;

  float logits_scale = 1.0F;    // multiplies the logits
  float logits_softcap = 0.0F;  // logits become cap * tanh(logits / cap); 0: not

  DType dtype = DType::f32;  // of the checkpoint, what --dtype auto takes
  std::optional<std::int32_t> bos_token_id;
  std::vector<std::int32_t> eos_token_ids;

  // How the layers' matrices are scaled where they are fp8; none: they are not.
  Fp8Scaling weight_scaling = Fp8Scaling::none;

  // Rows and columns of weights are cut at multiples of this (128 for block-scaled storage).
  std::int64_t granule = 1;

  std::vector<LayerSpec> layers;

  bool has_projections() const { return embedding_size != hidden_size; }
};

}  // namespace millrace
