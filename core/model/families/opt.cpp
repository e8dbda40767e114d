// OPT: learned positions that begin at row 2, layer norm before or (350m) after each block, an
// embedding that may be narrower than the model. Names and defaults as transformers' OPTConfig.
#include <fmt/format.h>

#include <cmath>

#include "core/model/families/family.hpp"

namespace millrace {
namespace {

void add_norm(TensorTable& table, const std::string& name, WeightRole weight, WeightRole bias,
              std::int64_t hidden) {
  table.add(name + ".weight", weight, {hidden}, Cut::none);
  table.add(name + ".bias", bias, {hidden}, Cut::none);
}

void add_linear(TensorTable& table, const std::string& name, WeightRole weight, WeightRole bias,
                std::vector<std::int64_t> shape, Cut cut, bool has_bias) {
  const std::int64_t rows = shape.front();
  const bool is_partial_sum = cut == Cut::o_inputs || cut == Cut::intermediate_columns;
  table.add(name + ".weight", weight, std::move(shape), cut);
  if (has_bias) {
    table.add(name + ".bias", bias, {rows}, is_partial_sum ? Cut::first_rank_only : cut);
  }
}

void add_tensors(ModelDescription& model) {
  const ModelSpec& spec = model.spec;
  const std::int64_t hidden = spec.hidden_size;
  TensorTable table(model);
  table.add("decoder.embed_tokens.weight", WeightRole::token_embedding,
            {spec.vocab_size, spec.embedding_size}, Cut::vocab);
  table.add("decoder.embed_positions.weight", WeightRole::position_embedding,
            {spec.max_position_embeddings + spec.position_offset, hidden}, Cut::none);
  if (spec.has_projections()) {
    table.add("decoder.project_in.weight", WeightRole::project_in, {hidden, spec.embedding_size},
              Cut::none);
    table.add("decoder.project_out.weight", WeightRole::project_out, {spec.embedding_size, hidden},
              Cut::none);
  }
  if (spec.final_norm) {
    add_norm(table, "decoder.final_layer_norm", WeightRole::final_norm, WeightRole::final_norm_bias,
             hidden);
  }
  if (!spec.tied_embeddings) {
    table.add("lm_head.weight", WeightRole::lm_head, {spec.vocab_size, spec.embedding_size},
              Cut::vocab);
  }
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const bool bias = spec.layers[i].mlp.bias;
    const std::int64_t inner = spec.layers[i].mlp.intermediate_size;
    const std::string layer = fmt::format("decoder.layers.{}.", i);
    const std::string self = layer + "self_attn.";
    const std::vector<std::int64_t> square{hidden, hidden};
    table.set_layer(static_cast<int>(i));
    add_norm(table, layer + "self_attn_layer_norm", WeightRole::attention_norm,
             WeightRole::attention_norm_bias, hidden);
    add_linear(table, self + "q_proj", WeightRole::q, WeightRole::q_bias, square, Cut::q_heads,
               bias);
    add_linear(table, self + "k_proj", WeightRole::k, WeightRole::k_bias, square, Cut::kv_heads,
               bias);
    add_linear(table, self + "v_proj", WeightRole::v, WeightRole::v_bias, square, Cut::kv_heads,
               bias);
    add_linear(table, self + "out_proj", WeightRole::o, WeightRole::o_bias, square, Cut::o_inputs,
               bias);
    add_norm(table, layer + "final_layer_norm", WeightRole::mlp_norm, WeightRole::mlp_norm_bias,
             hidden);
    add_linear(table, layer + "fc1", WeightRole::up, WeightRole::up_bias, {inner, hidden},
               Cut::intermediate_rows, bias);
    add_linear(table, layer + "fc2", WeightRole::down, WeightRole::down_bias, {hidden, inner},
               Cut::intermediate_columns, bias);
  }
}

}  // namespace

ModelDescription describe_opt(const Config& config) {
  ModelDescription model;
  model.name_prefixes = {"model.", ""};
  ModelSpec& spec = model.spec;
  read_common(config, spec);
  spec.hidden_size = config.size("hidden_size", limits::hidden);
  spec.embedding_size = config.size_or("word_embed_proj_dim", limits::hidden, spec.hidden_size);
  spec.vocab_size = config.size("vocab_size", limits::vocabulary);
  spec.max_position_embeddings = config.size_or("max_position_embeddings", limits::positions, 2048);
  spec.tied_embeddings = config.flag_or("tie_word_embeddings", true);
  const bool norm_before = config.flag_or("do_layer_norm_before", true);
  spec.norm = NormKind::layer;
  spec.norm_eps = 1e-5F;
  spec.final_norm = norm_before && !config.flag_or("_remove_final_layer_norm", false);
  spec.position = PositionKind::learned;
  spec.position_offset = 2;
  if (!config.flag_or("layer_norm_elementwise_affine", true)) {
    config.fail("layer_norm_elementwise_affine", "layer norms without weights are not supported");
  }

  LayerSpec layer;
  layer.norm_before = norm_before;
  const bool bias = config.flag_or("enable_bias", true);
  AttentionSpec& attention = layer.attention;
  attention.heads = static_cast<int>(config.size("num_attention_heads", limits::heads));
  attention.kv_heads = attention.heads;
  if (spec.hidden_size % attention.heads != 0) {
    config.fail("num_attention_heads", "it must divide hidden_size");
  }
  attention.head_dim = static_cast<int>(spec.hidden_size / attention.heads);
  attention.scale = 1.0F / std::sqrt(static_cast<float>(attention.head_dim));
  attention.qkv_bias = bias;
  attention.o_bias = bias;
  layer.mlp.intermediate_size = config.size("ffn_dim", limits::intermediate);
  layer.mlp.activation = read_activation(config, "activation_function", "relu");
  layer.mlp.gated = false;
  layer.mlp.bias = bias;
  spec.layers.assign(static_cast<std::size_t>(config.size("num_hidden_layers", limits::layers)),
                     layer);
  add_tensors(model);
  return model;
}

}  // namespace millrace
