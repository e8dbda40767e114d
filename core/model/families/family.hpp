// What families share: reading a config's common fields and writing the tensor table.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/model/config.hpp"
#include "core/model/tensor_spec.hpp"

namespace millrace {

// Limits of sizes in a config: far above every model, low enough that products of them cannot
// overflow 64 bits.
namespace limits {
constexpr std::int64_t hidden = std::int64_t{1} << 20;
constexpr std::int64_t intermediate = std::int64_t{1} << 24;
constexpr std::int64_t vocabulary = std::int64_t{1} << 26;
constexpr std::int64_t positions = std::int64_t{1} << 30;
constexpr std::int64_t heads = 1 << 12;
constexpr std::int64_t head_dim = 1 << 12;
constexpr std::int64_t layers = 1 << 12;
}  // namespace limits

// The activation that a config names (hidden_act, activation_function). Throws UserError.
Activation read_activation(const Config& config, const char* field, const std::string& otherwise);

// A norm's epsilon, in [0, 1).
float read_epsilon(const Config& config, const char* field, double otherwise);

// dtype (or torch_dtype) and the token ids that begin and end a text, into `spec`.
void read_common(const Config& config, ModelSpec& spec);

// Appends rows to a model's tensor table.
class TensorTable {
 public:
  explicit TensorTable(ModelDescription& model) : model_(model) {}

  void add(std::string name, WeightRole role, std::vector<std::int64_t> shape, Cut cut) {
    TensorSpec tensor;
    tensor.name = std::move(name);
    tensor.role = role;
    tensor.layer = layer_;
    tensor.shape = std::move(shape);
    tensor.cut = cut;
    model_.tensors.push_back(std::move(tensor));
  }

  // The row that was added last, for what few tensors need.
  TensorSpec& last() { return model_.tensors.back(); }

  // Rows added from here on belong to this layer; -1: to none.
  void set_layer(int layer) { layer_ = layer; }

 private:
  ModelDescription& model_;
  int layer_ = -1;
};

ModelDescription describe_llama(const Config& config);
ModelDescription describe_mistral(const Config& config);
ModelDescription describe_qwen2(const Config& config);
ModelDescription describe_qwen3(const Config& config);
ModelDescription describe_gpt2(const Config& config);
ModelDescription describe_opt(const Config& config);

}  // namespace millrace
