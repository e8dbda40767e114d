// GPT-2: layer norm before each block, learned positions, one fused projection for q, k and v. Its
// Conv1D stores weights as [in, out]. Names and defaults as transformers' GPT2Config.
#include <fmt/format.h>

#include <cmath>

#include "core/model/families/family.hpp"

namespace millrace {
namespace {

// The rows of a tensor that holds q, k and v one after the other.
void add_fused_qkv(TensorTable& table, const std::string& name, std::int64_t hidden) {
  constexpr WeightRole weights[] = {WeightRole::q, WeightRole::k, WeightRole::v};
  constexpr WeightRole biases[] = {WeightRole::q_bias, WeightRole::k_bias, WeightRole::v_bias};
  for (int part = 0; part < 3; ++part) {
    const Cut cut = part == 0 ? Cut::q_heads : Cut::kv_heads;
    table.add(name + ".weight", weights[part], {hidden, hidden}, cut);
    table.last().transposed = true;
    table.last().row_offset = part * hidden;
    table.last().fused_rows = 3 * hidden;
    table.add(name + ".bias", biases[part], {hidden}, cut);
    table.last().row_offset = part * hidden;
    table.last().fused_rows = 3 * hidden;
  }
}

void add_conv1d(TensorTable& table, const std::string& name, WeightRole role,
                std::vector<std::int64_t> shape, Cut cut) {
  table.add(name, role, std::move(shape), cut);
  table.last().transposed = true;
}

void add_tensors(ModelDescription& model) {
  const ModelSpec& spec = model.spec;
  const std::int64_t hidden = spec.hidden_size;
  TensorTable table(model);
  table.add("wte.weight", WeightRole::token_embedding, {spec.vocab_size, hidden}, Cut::vocab);
  table.add("wpe.weight", WeightRole::position_embedding, {spec.max_position_embeddings, hidden},
            Cut::none);
  table.add("ln_f.weight", WeightRole::final_norm, {hidden}, Cut::none);
  table.add("ln_f.bias", WeightRole::final_norm_bias, {hidden}, Cut::none);
  if (!spec.tied_embeddings) {
    table.add("lm_head.weight", WeightRole::lm_head, {spec.vocab_size, hidden}, Cut::vocab);
  }
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const std::int64_t inner = spec.layers[i].mlp.intermediate_size;
    const std::string layer = fmt::format("h.{}.", i);
    table.set_layer(static_cast<int>(i));
    table.add(layer + "ln_1.weight", WeightRole::attention_norm, {hidden}, Cut::none);
    table.add(layer + "ln_1.bias", WeightRole::attention_norm_bias, {hidden}, Cut::none);
    add_fused_qkv(table, layer + "attn.c_attn", hidden);
    add_conv1d(table, layer + "attn.c_proj.weight", WeightRole::o, {hidden, hidden}, Cut::o_inputs);
    table.add(layer + "attn.c_proj.bias", WeightRole::o_bias, {hidden}, Cut::first_rank_only);
    table.add(layer + "ln_2.weight", WeightRole::mlp_norm, {hidden}, Cut::none);
    table.add(layer + "ln_2.bias", WeightRole::mlp_norm_bias, {hidden}, Cut::none);
    add_conv1d(table, layer + "mlp.c_fc.weight", WeightRole::up, {inner, hidden},
               Cut::intermediate_rows);
    table.add(layer + "mlp.c_fc.bias", WeightRole::up_bias, {inner}, Cut::intermediate_rows);
    add_conv1d(table, layer + "mlp.c_proj.weight", WeightRole::down, {hidden, inner},
               Cut::intermediate_columns);
    table.add(layer + "mlp.c_proj.bias", WeightRole::down_bias, {hidden}, Cut::first_rank_only);
  }
}

}  // namespace

ModelDescription describe_gpt2(const Config& config) {
  ModelDescription model;
  model.name_prefixes = {"transformer.", ""};
  ModelSpec& spec = model.spec;
  read_common(config, spec);
  spec.hidden_size = config.size("n_embd", limits::hidden);
  spec.embedding_size = spec.hidden_size;
  spec.vocab_size = config.size("vocab_size", limits::vocabulary);
  spec.max_position_embeddings = config.size_or("n_positions", limits::positions, 1024);
  spec.tied_embeddings = config.flag_or("tie_word_embeddings", true);
  spec.norm = NormKind::layer;
  spec.norm_eps = read_epsilon(config, "layer_norm_epsilon", 1e-5);
  spec.position = PositionKind::learned;

  LayerSpec layer;
  AttentionSpec& attention = layer.attention;
  attention.heads = static_cast<int>(config.size("n_head", limits::heads));
  attention.kv_heads = attention.heads;
  if (spec.hidden_size % attention.heads != 0) config.fail("n_head", "it must divide n_embd");
  attention.head_dim = static_cast<int>(spec.hidden_size / attention.heads);
  attention.scale = config.flag_or("scale_attn_weights", true)
                        ? 1.0F / std::sqrt(static_cast<float>(attention.head_dim))
                        : 1.0F;
  attention.qkv_bias = true;
  attention.o_bias = true;
  layer.mlp.intermediate_size =
      config.size_or("n_inner", limits::intermediate, 4 * spec.hidden_size);
  layer.mlp.activation = read_activation(config, "activation_function", "gelu_new");
  layer.mlp.gated = false;
  layer.mlp.bias = true;
  spec.layers.assign(static_cast<std::size_t>(config.size("n_layer", limits::layers)), layer);
  if (config.flag_or("scale_attn_by_inverse_layer_idx", false)) {
    for (std::size_t i = 0; i < spec.layers.size(); ++i) {
      spec.layers[i].attention.scale /= static_cast<float>(i + 1);
    }
  }
  add_tensors(model);
  return model;
}

}  // namespace millrace
