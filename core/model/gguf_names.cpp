#include "core/model/gguf_names.hpp"

#include <fmt/format.h>

#include <stdexcept>
#include <string_view>

namespace millrace {
namespace {

std::string_view word_of(WeightRole role) {
  switch (role) {
    case WeightRole::token_embedding:
      return "token_embd.weight";
    case WeightRole::position_embedding:
      return "position_embd.weight";
    case WeightRole::final_norm:
      return "output_norm.weight";
    case WeightRole::final_norm_bias:
      return "output_norm.bias";
    case WeightRole::lm_head:
      return "output.weight";
    case WeightRole::attention_norm:
      return "attn_norm.weight";
    case WeightRole::attention_norm_bias:
      return "attn_norm.bias";
    case WeightRole::q:
      return "attn_q.weight";
    case WeightRole::q_bias:
      return "attn_q.bias";
    case WeightRole::k:
      return "attn_k.weight";
    case WeightRole::k_bias:
      return "attn_k.bias";
    case WeightRole::v:
      return "attn_v.weight";
    case WeightRole::v_bias:
      return "attn_v.bias";
    case WeightRole::q_norm:
      return "attn_q_norm.weight";
    case WeightRole::k_norm:
      return "attn_k_norm.weight";
    case WeightRole::o:
      return "attn_output.weight";
    case WeightRole::o_bias:
      return "attn_output.bias";
    case WeightRole::mlp_norm:
      return "ffn_norm.weight";
    case WeightRole::mlp_norm_bias:
      return "ffn_norm.bias";
    case WeightRole::gate:
      return "ffn_gate.weight";
    case WeightRole::gate_bias:
      return "ffn_gate.bias";
    case WeightRole::up:
      return "ffn_up.weight";
    case WeightRole::up_bias:
      return "ffn_up.bias";
    case WeightRole::down:
      return "ffn_down.weight";
    case WeightRole::down_bias:
      return "ffn_down.bias";
    case WeightRole::project_in:
    case WeightRole::project_out:
      break;
  }
  throw std::logic_error("a tensor that GGUF has no name for");
}

}  // namespace

std::string gguf_name(const TensorSpec& tensor) {
  std::string_view word = word_of(tensor.role);
  if (tensor.fused_rows > 0) {
    word = tensor.shape.size() == 1 ? "attn_qkv.bias" : "attn_qkv.weight";
  }
  return tensor.layer < 0 ? std::string(word) : fmt::format("blk.{}.{}", tensor.layer, word);
}

}  // namespace millrace
