#include "core/model/families/family.hpp"

#include <array>
#include <string_view>
#include <utility>

namespace millrace {

Activation read_activation(const Config& config, const char* field, const std::string& otherwise) {
  // gelu_fast and gelu_pytorch_tanh are the same function as gelu_new, written differently.
  constexpr std::array<std::pair<std::string_view, Activation>, 8> known{{
      {"silu", Activation::silu},
      {"swish", Activation::silu},
      {"gelu", Activation::gelu_erf},
      {"gelu_new", Activation::gelu_tanh},
      {"gelu_fast", Activation::gelu_tanh},
      {"gelu_pytorch_tanh", Activation::gelu_tanh},
      {"relu", Activation::relu},
      {"quick_gelu", Activation::quick_gelu},
  }};
  const std::string word = config.text_or(field, otherwise);
  for (const auto& [name, activation] : known) {
    if (name == word) return activation;
  }
  config.fail(field,
              "supported are silu, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu, quick_gelu");
}

float read_epsilon(const Config& config, const char* field, double otherwise) {
  const double epsilon = config.number_or(field, otherwise);
  if (!(epsilon >= 0 && epsilon < 1)) config.fail(field, "a number in [0, 1) is needed");
  return static_cast<float>(epsilon);
}

void read_common(const Config& config, ModelSpec& spec) {
  const char* field = config.has("dtype") ? "dtype" : "torch_dtype";
  const std::string dtype = config.text_or(field, "float32");
  if (dtype == "float32") {
    spec.dtype = DType::f32;
  } else if (dtype == "float16") {
    spec.dtype = DType::f16;
  } else if (dtype == "bfloat16") {
    spec.dtype = DType::bf16;
  } else {
    config.fail(field, "supported are float32, float16 and bfloat16");
  }
  const std::vector<std::int32_t> bos = config.token_ids("bos_token_id");
  if (!bos.empty()) spec.bos_token_id = bos.front();
  spec.eos_token_ids = config.token_ids("eos_token_id");
}

}  // namespace millrace
