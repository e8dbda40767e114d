#include "core/model/registry.hpp"

#include <fmt/ranges.h>

#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "core/model/families/family.hpp"
#include "core/model/quantization.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

using Describe = ModelDescription (*)(const Config&);

constexpr std::array<std::pair<std::string_view, Describe>, 6> families{{
    {"gpt2", describe_gpt2},
    {"llama", describe_llama},
    {"mistral", describe_mistral},
    {"opt", describe_opt},
    {"qwen2", describe_qwen2},
    {"qwen3", describe_qwen3},
}};

}  // namespace

ModelDescription describe_config(const Config& config) {
  const std::string type = config.text_or("model_type", "");
  std::vector<std::string_view> known;
  for (const auto& [name, describe] : families) {
    if (name == type) {
      ModelDescription model = describe(config);
      model.spec.architecture = type;
      read_quantization(config, model);
      return model;
    }
    known.push_back(name);
  }
  config.fail("model_type", fmt::format("supported are {}", fmt::join(known, ", ")));
}

}  // namespace millrace
