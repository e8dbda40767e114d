#include "core/model/gguf_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <utility>

#include "core/model/config.hpp"
#include "core/model/gguf_names.hpp"
#include "core/model/registry.hpp"
#include "core/weights/checkpoint_file.hpp"
#include "core/weights/printable.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using Json = nlohmann::json;

struct Architecture {
  std::string_view name;  // general.architecture, and the config's model_type
  bool is_gpt2;           // its words for sizes, and one fused tensor for q, k and v
  // Rows of q and k are stored for a rotation of neighbouring pairs.
  bool interleaves_rope;
};

constexpr std::array<Architecture, 4> architectures{{
    {"llama", false, true},
    {"qwen2", false, false},
    {"qwen3", false, false},
    {"gpt2", true, false},
}};

const Architecture& find_architecture(const GgufHeader& header) {
  const std::string* name = header.find_string("general.architecture");
  if (name == nullptr) {
    throw UserError("{}: metadata key 'general.architecture' is missing", header.path.string());
  }
  for (const Architecture& known : architectures) {
    if (known.name == *name) return known;
  }
  throw UserError("{}: architecture '{}' is not supported (llama, qwen2, qwen3 and gpt2 are)",
                  header.path.string(), printable(*name));
}

// A number under <architecture>.<key> goes into `config` as `field`, if it is there.
struct Keys {
  const GgufHeader& header;
  std::string prefix;
  Json& config;

  void move(std::string_view key, const char* field) const {
    const std::string full = prefix + std::string(key);
    const auto at = header.metadata.find(full);
    if (at == header.metadata.end()) return;
    if (const auto* integer = std::get_if<std::int64_t>(&at->second)) {
      config[field] = *integer;
    } else {
      config[field] = *header.find_number(full);
    }
  }
};

// Throws for what the words of a config cannot say.
void check_supported(const GgufHeader& header, const std::string& prefix) {
  const std::int64_t splits = header.find_integer("split.count").value_or(1);
  if (splits > 1) {
    throw UserError(
        "{}: one of {} parts; split GGUF files are not supported, join them with gguf-split "
        "--merge",
        header.path.string(), splits);
  }
  const std::int64_t experts = header.find_integer(prefix + "expert_count").value_or(0);
  if (experts > 0) {
    throw UserError("{}: a mixture of {} experts is not supported", header.path.string(), experts);
  }
  const double factor = header.find_number(prefix + "rope.scaling.attn_factor").value_or(1.0);
  if (factor != 1.0) {
    throw UserError("{}: {}rope.scaling.attn_factor is {}: only 1 is supported",
                    header.path.string(), prefix, factor);
  }
}

Json rope_parameters(const GgufHeader& header, const std::string& prefix) {
  Json rope = Json::object();
  const Keys keys{header, prefix + "rope.", rope};
  keys.move("freq_base", "rope_theta");
  const std::string* kind = header.find_string(prefix + "rope.scaling.type");
  if (kind != nullptr && *kind != "none") {
    rope["rope_type"] = *kind;
    keys.move("scaling.factor", "factor");
    keys.move("scaling.original_context_length", "original_max_position_embeddings");
    keys.move("scaling.yarn_beta_fast", "beta_fast");
    keys.move("scaling.yarn_beta_slow", "beta_slow");
  } else if (header.find_number(prefix + "rope.scale_linear")) {
    rope["rope_type"] = "linear";  // files from before scaling.type
    keys.move("scale_linear", "factor");
  }
  return rope;
}

Json token_ids(const GgufHeader& header) {
  Json config = Json::object();
  const Keys keys{header, "tokenizer.ggml.", config};
  keys.move("bos_token_id", "bos_token_id");
  // Where a turn ends, generation ends too, as in the generation_config.json of the same models.
  Json eos = Json::array();
  for (const char* key : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    const auto id = header.find_integer(std::string("tokenizer.ggml.") + key);
    if (id && std::find(eos.begin(), eos.end(), *id) == eos.end()) eos.push_back(*id);
  }
  config["eos_token_id"] = eos;
  return config;
}

std::int64_t vocabulary(const GgufHeader& header) {
  const auto table = header.tensors.find("token_embd.weight");
  if (table == header.tensors.end()) {
    throw UserError("{}: tensor 'token_embd.weight' is missing", header.path.string());
  }
  return table->second.shape.front();
}

Json config_of(const GgufHeader& header, const Architecture& architecture) {
  const std::string prefix = std::string(architecture.name) + ".";
  const auto has = [&](const char* tensor) { return header.tensors.contains(tensor); };
  Json config = token_ids(header);
  config["model_type"] = architecture.name;
  config["vocab_size"] = vocabulary(header);
  config["tie_word_embeddings"] = !has("output.weight");
  const Keys keys{header, prefix, config};
  if (architecture.is_gpt2) {
    keys.move("context_length", "n_positions");
    keys.move("embedding_length", "n_embd");
    keys.move("feed_forward_length", "n_inner");
    keys.move("block_count", "n_layer");
    keys.move("attention.head_count", "n_head");
    keys.move("attention.layer_norm_epsilon", "layer_norm_epsilon");
    return config;
  }
  keys.move("context_length", "max_position_embeddings");
  keys.move("embedding_length", "hidden_size");
  keys.move("feed_forward_length", "intermediate_size");
  keys.move("block_count", "num_hidden_layers");
  keys.move("attention.head_count", "num_attention_heads");
  keys.move("attention.head_count_kv", "num_key_value_heads");
  keys.move("attention.layer_norm_rms_epsilon", "rms_norm_eps");
  // Families differ in what an absent head_dim means; GGUF does not.
  const auto hidden = header.find_integer(prefix + "embedding_length").value_or(0);
  const auto heads = header.find_integer(prefix + "attention.head_count").value_or(0);
  const auto head_dim = header.find_integer(prefix + "attention.key_length")
                            .value_or(hidden > 0 && heads > 0 ? hidden / heads : 0);
  if (head_dim > 0) config["head_dim"] = head_dim;
  config["attention_bias"] = has("blk.0.attn_q.bias");
  config["mlp_bias"] = has("blk.0.ffn_up.bias");
  config["rope_parameters"] = rope_parameters(header, prefix);
  const auto rotary_dim = header.find_integer(prefix + "rope.dimension_count");
  if (rotary_dim && head_dim > 0) {
    config["rope_parameters"]["partial_rotary_factor"] =
        static_cast<double>(*rotary_dim) / static_cast<double>(head_dim);
  }
  return config;
}

bool is_rotated(WeightRole role) {
  return role == WeightRole::q || role == WeightRole::q_bias || role == WeightRole::k ||
         role == WeightRole::k_bias;
}

void rename_tensors(const Architecture& architecture, ModelDescription& model) {
  model.name_prefixes = {""};
  for (TensorSpec& tensor : model.tensors) {
    tensor.name = gguf_name(tensor);
    tensor.transposed = false;  // converters write [out, in]
    if (architecture.interleaves_rope && is_rotated(tensor.role)) {
      const auto layer = static_cast<std::size_t>(tensor.layer);
      tensor.interleaved_head_dim = model.spec.layers[layer].attention.head_dim;
    }
  }
}

// The divisors of Llama 3.1's frequencies lie in the file as a tensor.
void read_frequency_factors(const GgufHeader& header, RotarySpec& rotary) {
  const auto at = header.tensors.find("rope_freqs.weight");
  if (at == header.tensors.end()) return;
  const GgufTensor& tensor = at->second;
  const std::int64_t pairs = rotary.rotary_dim / 2;
  if (tensor.shape != std::vector<std::int64_t>{pairs} || tensor.type != StorageType::f32) {
    throw UserError("{}: tensor 'rope_freqs.weight' is {} of {} elements, F32 of {} is needed",
                    header.path.string(), name(tensor.type), tensor.shape.front(), pairs);
  }
  std::vector<float> factors(static_cast<std::size_t>(pairs));
  CheckpointFile(header.path).read(tensor.offset, std::as_writable_bytes(std::span(factors)));
  for (const float factor : factors) {
    if (!(factor > 0) || !std::isfinite(factor)) {
      throw UserError("{}: tensor 'rope_freqs.weight' holds {}", header.path.string(), factor);
    }
  }
  rotary.frequency_factors = std::move(factors);
}

// What can hold every matrix exactly: f32 once one is quantized.
DType widest_type(const GgufHeader& header) {
  bool has_f16 = false;
  bool has_bf16 = false;
  for (const auto& [key, tensor] : header.tensors) {
    if (tensor.shape.size() < 2) continue;
    if (tensor.type == StorageType::f16) {
      has_f16 = true;
    } else if (tensor.type == StorageType::bf16) {
      has_bf16 = true;
    } else {
      return DType::f32;
    }
  }
  if (has_f16 == has_bf16) return DType::f32;
  return has_f16 ? DType::f16 : DType::bf16;
}

}  // namespace

ModelDescription describe_gguf(const GgufHeader& header) {
  const Architecture& architecture = find_architecture(header);
  check_supported(header, std::string(architecture.name) + ".");
  ModelDescription model =
      describe_config(Config(header.path.string(), config_of(header, architecture)));
  rename_tensors(architecture, model);
  const int head_dim = model.spec.layers.front().attention.head_dim;
  if (architecture.interleaves_rope && head_dim % 2 != 0) {
    throw UserError("{}: heads of {} elements cannot be rotated in pairs", header.path.string(),
                    head_dim);
  }
  if (model.spec.position == PositionKind::rotary) {
    read_frequency_factors(header, model.spec.rotary);
  }
  model.spec.dtype = widest_type(header);
  return model;
}

}  // namespace millrace
