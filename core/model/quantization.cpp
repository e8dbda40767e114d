#include "core/model/quantization.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/regex.hpp"
#include "kernels/base/error.hpp"
#include "kernels/linear_input.hpp"

namespace millrace {
namespace {

// What a config says of all matrices that it quantizes.
struct Scheme {
  Fp8Source source = Fp8Source::none;
  bool fixed_inputs = false;
  std::string scale_suffix;              // of the weight's scales: "weight_scale"
  std::vector<std::string> unquantized;  // modules, or regular expressions behind "re:"
};

bool is_layer_matrix(const TensorSpec& tensor) {
  switch (tensor.role) {
    case WeightRole::q:
    case WeightRole::k:
    case WeightRole::v:
    case WeightRole::o:
    case WeightRole::gate:
    case WeightRole::up:
    case WeightRole::down:
      return true;
    default:
      return false;
  }
}

// "model.layers.0.mlp.up_proj.weight" -> "model.layers.0.mlp.up_proj"
std::string_view module_of(std::string_view tensor) { return tensor.substr(0, tensor.rfind('.')); }

// True when an entry of an ignore list means the module: its name, with or without the optional
// prefix, or the last part of it, or a regular expression that its name begins with.
bool names_module(const Config& config, const std::string& entry, std::string_view module,
                  const std::vector<std::string>& prefixes) {
  if (!entry.starts_with("re:")) {
    return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& prefix) {
      const std::string full = prefix + std::string(module);
      return full == entry || full.ends_with("." + entry) || full.starts_with(entry + ".");
    });
  }
  try {
    const text::Regex expression(entry.substr(3));
    return std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& prefix) {
      const auto match = expression.find(prefix + std::string(module), 0);
      return match && match->begin == 0;
    });
  } catch (const UserError& error) {
    config.fail("ignore", error.what());
  }
}

void check_block(const Config& config, const char* field, const std::vector<std::int32_t>& sides) {
  const std::vector<std::int32_t> supported(2, static_cast<std::int32_t>(scale_block));
  if (sides != supported) config.fail(field, "blocks of 128 x 128 are supported");
}

// The one group of a compressed-tensors config.
Config only_group(const Config& config) {
  const std::optional<Config> groups = config.section("config_groups");
  if (!groups) config.fail("config_groups", "it is needed");
  const std::optional<Config> group = groups->section("group_0");
  if (!group || groups->fields() != 1) {
    config.fail("config_groups", "one group, group_0, is supported");
  }
  if (group->texts("targets") != std::vector<std::string>{"Linear"}) {
    group->fail("targets", "[\"Linear\"] is supported");
  }
  return *group;
}

void check_fp8_numbers(const Config& side) {
  if (side.text_or("type", "") != "float") side.fail("type", "\"float\" is supported");
  if (side.number_or("num_bits", 0) != 8) side.fail("num_bits", "8 is supported");
  if (!side.flag_or("symmetric", true)) side.fail("symmetric", "true is supported");
}

Scheme read_compressed_tensors(const Config& config) {
  const std::string format = config.text_or("format", "");
  if (format != "float-quantized") config.fail("format", "\"float-quantized\" is supported");
  const Config group = only_group(config);
  const std::optional<Config> weights = group.section("weights");
  const std::optional<Config> inputs = group.section("input_activations");
  if (!weights) group.fail("weights", "it is needed");
  if (!inputs) group.fail("input_activations", "weights alone in fp8 are not supported");
  check_fp8_numbers(*weights);
  check_fp8_numbers(*inputs);

  Scheme scheme;
  scheme.scale_suffix = "weight_scale";
  scheme.unquantized = config.texts("ignore");
  scheme.fixed_inputs = !inputs->flag_or("dynamic", false);
  const std::string strategy = weights->text_or("strategy", "");
  const std::string input_strategy = inputs->text_or("strategy", "");
  if (strategy == "block") {
    check_block(*weights, "block_structure", weights->token_ids("block_structure"));
    if (input_strategy != "group" || inputs->number_or("group_size", 0) != scale_block ||
        scheme.fixed_inputs) {
      inputs->fail("strategy", "with blocks, dynamic groups of 128 are supported");
    }
    scheme.source = Fp8Source::blocks;
    return scheme;
  }
  if (strategy != "channel" && strategy != "tensor") {
    weights->fail("strategy", "\"channel\", \"tensor\" and \"block\" are supported");
  }
  if (input_strategy != (scheme.fixed_inputs ? "tensor" : "token")) {
    inputs->fail("strategy", "\"token\" is supported, or \"tensor\" when dynamic is false");
  }
  scheme.source = Fp8Source::channels;
  return scheme;
}

Scheme read_fp8(const Config& config) {
  Scheme scheme;
  const std::string activations = config.text_or("activation_scheme", "dynamic");
  if (activations != "dynamic" && activations != "static") {
    config.fail("activation_scheme", "\"dynamic\" and \"static\" are supported");
  }
  if (config.text_or("fmt", "e4m3") != "e4m3") config.fail("fmt", "\"e4m3\" is supported");
  scheme.fixed_inputs = activations == "static";
  for (const char* field : {"ignored_layers", "modules_to_not_convert"}) {
    for (std::string& module : config.texts(field)) scheme.unquantized.push_back(std::move(module));
  }
  if (!config.has("weight_block_size")) {
    scheme.source = Fp8Source::channels;
    scheme.scale_suffix = "weight_scale";
    return scheme;
  }
  check_block(config, "weight_block_size", config.token_ids("weight_block_size"));
  if (scheme.fixed_inputs)
    config.fail("activation_scheme", "with blocks, \"dynamic\" is supported");
  scheme.source = Fp8Source::blocks;
  scheme.scale_suffix = "weight_scale_inv";
  return scheme;
}

}  // namespace

void read_quantization(const Config& config, ModelDescription& model) {
  if (!config.has("quantization_config")) return;
  const Config section = *config.section("quantization_config");
  const std::string method = section.text_or("quant_method", "of an unnamed method");
  Scheme scheme;
  if (method == "compressed-tensors") {
    scheme = read_compressed_tensors(section);
  } else if (method == "fp8") {
    scheme = read_fp8(section);
  } else {
    config.fail("quantization_config",
                fmt::format("weights quantized by {} are not supported", method));
  }
  for (TensorSpec& tensor : model.tensors) {
    if (!is_layer_matrix(tensor)) continue;
    const std::string_view module = module_of(tensor.name);
    const bool is_plain = std::any_of(
        scheme.unquantized.begin(), scheme.unquantized.end(), [&](const std::string& entry) {
          return names_module(section, entry, module, model.name_prefixes);
        });
    if (is_plain) continue;
    if (tensor.transposed || tensor.fused_rows > 0) {
      section.fail("quant_method", "fp8 is not supported for this family of models");
    }
    tensor.fp8 = scheme.source;
    tensor.scale_name = fmt::format("{}.{}", module, scheme.scale_suffix);
    if (scheme.fixed_inputs) tensor.input_scale_name = fmt::format("{}.input_scale", module);
  }
  const bool blocks = scheme.source == Fp8Source::blocks;
  model.spec.weight_scaling = blocks ? Fp8Scaling::blocks : Fp8Scaling::rows;
  if (blocks) model.spec.granule = scale_block;
}

void quantize_at_load(ModelDescription& model) {
  if (model.spec.weight_scaling != Fp8Scaling::none) return;
  for (TensorSpec& tensor : model.tensors) {
    if (is_layer_matrix(tensor)) tensor.fp8 = Fp8Source::at_load;
  }
  model.spec.weight_scaling = Fp8Scaling::rows;
}

}  // namespace millrace
