// Llama and the models that differ from it by a flag: RMS norm before each block, rotary positions,
// grouped KV heads, gated MLP. Names and defaults as transformers' LlamaConfig, MistralConfig,
// Qwen2Config and Qwen3Config.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/model/families/family.hpp"
#include "core/model/rope_config.hpp"

namespace millrace {
namespace {

struct Variant {
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  bool qk_norm = false;
  int default_head_dim = 0;  // 0: hidden / heads
};

// Fills spec.layers alike; windows differ by layer and come after.
void read_layers(const Config& config, const Variant& variant, ModelSpec& spec) {
  LayerSpec layer;
  AttentionSpec& attention = layer.attention;
  attention.heads = static_cast<int>(config.size("num_attention_heads", limits::heads));
  attention.kv_heads =
      static_cast<int>(config.size_or("num_key_value_heads", limits::heads, attention.heads));
  if (attention.heads % attention.kv_heads != 0) {
    config.fail("num_key_value_heads", "it must divide num_attention_heads");
  }
  std::int64_t head_dim = variant.default_head_dim;
  if (head_dim == 0) head_dim = spec.hidden_size / attention.heads;
  if (head_dim == 0) config.fail("num_attention_heads", "more than hidden_size");
  attention.head_dim = static_cast<int>(config.size_or("head_dim", limits::head_dim, head_dim));
  attention.scale = 1.0F / std::sqrt(static_cast<float>(attention.head_dim));
  attention.qkv_bias = variant.qkv_bias;
  attention.o_bias = variant.o_bias;
  attention.qk_norm = variant.qk_norm;
  layer.mlp.intermediate_size = config.size("intermediate_size", limits::intermediate);
  layer.mlp.activation = read_activation(config, "hidden_act", "silu");
  layer.mlp.gated = true;
  layer.mlp.bias = variant.mlp_bias;
  const std::int64_t layers = config.size("num_hidden_layers", limits::layers);
  spec.layers.assign(static_cast<std::size_t>(layers), layer);
}

void add_tensors(const Variant& variant, ModelDescription& model) {
  const ModelSpec& spec = model.spec;
  const std::int64_t hidden = spec.hidden_size;
  TensorTable table(model);
  table.add("embed_tokens.weight", WeightRole::token_embedding, {spec.vocab_size, hidden},
            Cut::vocab);
  table.add("norm.weight", WeightRole::final_norm, {hidden}, Cut::none);
  if (!spec.tied_embeddings) {
    table.add("lm_head.weight", WeightRole::lm_head, {spec.vocab_size, hidden}, Cut::vocab);
  }
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const AttentionSpec& attention = spec.layers[i].attention;
    const std::int64_t head_dim = attention.head_dim;
    const std::int64_t q_rows = attention.heads * head_dim;
    const std::int64_t kv_rows = attention.kv_heads * head_dim;
    const std::int64_t inner = spec.layers[i].mlp.intermediate_size;
    const std::string layer = fmt::format("layers.{}.", i);
    const std::string self = layer + "self_attn.";
    const std::string mlp = layer + "mlp.";
    table.set_layer(static_cast<int>(i));
    table.add(layer + "input_layernorm.weight", WeightRole::attention_norm, {hidden}, Cut::none);
    table.add(self + "q_proj.weight", WeightRole::q, {q_rows, hidden}, Cut::q_heads);
    table.add(self + "k_proj.weight", WeightRole::k, {kv_rows, hidden}, Cut::kv_heads);
    table.add(self + "v_proj.weight", WeightRole::v, {kv_rows, hidden}, Cut::kv_heads);
    if (variant.qkv_bias) {
      table.add(self + "q_proj.bias", WeightRole::q_bias, {q_rows}, Cut::q_heads);
      table.add(self + "k_proj.bias", WeightRole::k_bias, {kv_rows}, Cut::kv_heads);
      table.add(self + "v_proj.bias", WeightRole::v_bias, {kv_rows}, Cut::kv_heads);
    }
    if (variant.qk_norm) {
      table.add(self + "q_norm.weight", WeightRole::q_norm, {head_dim}, Cut::none);
      table.add(self + "k_norm.weight", WeightRole::k_norm, {head_dim}, Cut::none);
    }
    table.add(self + "o_proj.weight", WeightRole::o, {hidden, q_rows}, Cut::o_inputs);
    if (variant.o_bias) {
      table.add(self + "o_proj.bias", WeightRole::o_bias, {hidden}, Cut::first_rank_only);
    }
    table.add(layer + "post_attention_layernorm.weight", WeightRole::mlp_norm, {hidden}, Cut::none);
    table.add(mlp + "gate_proj.weight", WeightRole::gate, {inner, hidden}, Cut::intermediate_rows);
    table.add(mlp + "up_proj.weight", WeightRole::up, {inner, hidden}, Cut::intermediate_rows);
    table.add(mlp + "down_proj.weight", WeightRole::down, {hidden, inner},
              Cut::intermediate_columns);
    if (variant.mlp_bias) {
      table.add(mlp + "gate_proj.bias", WeightRole::gate_bias, {inner}, Cut::intermediate_rows);
      table.add(mlp + "up_proj.bias", WeightRole::up_bias, {inner}, Cut::intermediate_rows);
      table.add(mlp + "down_proj.bias", WeightRole::down_bias, {hidden}, Cut::first_rank_only);
    }
  }
}

ModelDescription describe(const Config& config, const Variant& variant) {
  ModelDescription model;
  // Exports of the bare model leave the prefix out.
  model.name_prefixes = {"model.", ""};
  ModelSpec& spec = model.spec;
  read_common(config, spec);
  spec.hidden_size = config.size("hidden_size", limits::hidden);
  spec.embedding_size = spec.hidden_size;
  spec.vocab_size = config.size("vocab_size", limits::vocabulary);
  spec.max_position_embeddings = config.size_or("max_position_embeddings", limits::positions, 2048);
  spec.tied_embeddings = config.flag_or("tie_word_embeddings", false);
  spec.norm = NormKind::rms;
  spec.norm_eps = read_epsilon(config, "rms_norm_eps", 1e-6);
  spec.position = PositionKind::rotary;
  read_layers(config, variant, spec);
  spec.rotary =
      read_rotary(config, spec.layers.front().attention.head_dim, spec.max_position_embeddings);
  add_tensors(variant, model);
  return model;
}

// Qwen: layers from max_window_layers on look back sliding_window positions, when that is asked
// for.
void read_qwen_windows(const Config& config, ModelSpec& spec) {
  if (!config.flag_or("use_sliding_window", false)) return;
  const auto window = static_cast<int>(config.size_or("sliding_window", limits::positions, 4096));
  const std::vector<std::string> kinds = config.texts("layer_types");
  if (!kinds.empty() && kinds.size() != spec.layers.size()) {
    config.fail("layer_types", "one entry per layer is needed");
  }
  const auto full_layers = static_cast<std::size_t>(
      std::clamp(config.number_or("max_window_layers", 28), 0.0, double{limits::layers}));
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const bool slides = kinds.empty() ? i >= full_layers : kinds[i] == "sliding_attention";
    if (slides) spec.layers[i].attention.window = window;
  }
}

}  // namespace

ModelDescription describe_llama(const Config& config) {
  const bool attention_bias = config.flag_or("attention_bias", false);
  return describe(config, {.qkv_bias = attention_bias,
                           .o_bias = attention_bias,
                           .mlp_bias = config.flag_or("mlp_bias", false)});
}

ModelDescription describe_mistral(const Config& config) {
  ModelDescription model = describe(config, {});
  // The config's default is a window of 4096; null, which many files state, is none.
  const std::int64_t window = config.states("sliding_window")
                                  ? config.size_or("sliding_window", limits::positions, 0)
                                  : 4096;
  for (LayerSpec& layer : model.spec.layers) layer.attention.window = static_cast<int>(window);
  return model;
}

ModelDescription describe_qwen2(const Config& config) {
  ModelDescription model = describe(config, {.qkv_bias = true});
  read_qwen_windows(config, model.spec);
  return model;
}

ModelDescription describe_qwen3(const Config& config) {
  const bool attention_bias = config.flag_or("attention_bias", false);
  ModelDescription model = describe(config, {.qkv_bias = attention_bias,
                                             .o_bias = attention_bias,
                                             .qk_norm = true,
                                             .default_head_dim = 128});
  read_qwen_windows(config, model.spec);
  return model;
}

}  // namespace millrace
