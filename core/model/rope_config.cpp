#include "core/model/rope_config.hpp"

#include <cmath>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

constexpr std::int64_t most_positions = std::int64_t{1} << 30;

double positive(const Config& config, const char* field, double value) {
  if (!(value > 0) || !std::isfinite(value)) config.fail(field, "a positive number is needed");
  return value;
}

double required(const Config& config, const char* field) {
  return positive(config, field, config.number(field));
}

RopeScaling scaling_kind(const Config& parameters, const char* field) {
  const std::string kind = parameters.text_or(field, "default");
  if (kind == "default") return RopeScaling::none;
  if (kind == "linear") return RopeScaling::linear;
  if (kind == "dynamic") return RopeScaling::dynamic;
  if (kind == "llama3") return RopeScaling::llama3;
  if (kind == "yarn") return RopeScaling::yarn;
  parameters.fail(field, "supported are default, linear, dynamic, llama3 and yarn");
}

void read_llama3(const Config& parameters, RotarySpec& rotary) {
  rotary.low_freq_factor = required(parameters, "low_freq_factor");
  rotary.high_freq_factor = required(parameters, "high_freq_factor");
  if (rotary.high_freq_factor == rotary.low_freq_factor) {
    parameters.fail("high_freq_factor", "it must differ from low_freq_factor");
  }
}

void read_yarn(const Config& parameters, RotarySpec& rotary) {
  const auto above_zero = [&](const char* field, double otherwise) {
    const double value = parameters.number_or(field, otherwise);
    return positive(parameters, field, value == 0 ? otherwise : value);  // 0: as absent
  };
  rotary.beta_fast = above_zero("beta_fast", 32.0);
  rotary.beta_slow = above_zero("beta_slow", 1.0);
  rotary.attention_factor = parameters.find_number("attention_factor");
  rotary.mscale = parameters.find_number("mscale");
  rotary.mscale_all_dim = parameters.find_number("mscale_all_dim");
  rotary.truncate = parameters.flag_or("truncate", true);
  if (rotary.theta <= 1) parameters.fail("rope_theta", "yarn needs more than 1");
}

}  // namespace

RotarySpec read_rotary(const Config& config, int head_dim, std::int64_t max_positions) {
  const bool is_new = config.has("rope_parameters");
  const std::optional<Config> section = config.section(is_new ? "rope_parameters" : "rope_scaling");
  const Config& parameters = section ? *section : config;

  RotarySpec rotary;
  const Config& theta_holder = parameters.has("rope_theta") ? parameters : config;
  rotary.theta = positive(theta_holder, "rope_theta", theta_holder.number_or("rope_theta", 1e4));

  const double part =
      parameters.number_or("partial_rotary_factor", config.number_or("partial_rotary_factor", 1.0));
  rotary.rotary_dim = static_cast<int>(head_dim * (part > 0 && part <= 1 ? part : 0));
  if (rotary.rotary_dim < 2 || rotary.rotary_dim % 2 != 0) {
    throw UserError("{}: {} rotary elements of a head of {}: an even number in [2, {}] is needed",
                    config.source(), rotary.rotary_dim, head_dim, head_dim);
  }
  rotary.original_max_positions = max_positions;
  if (!section) return rotary;
  for (const char* kind : {"full_attention", "sliding_attention"}) {
    if (section->has(kind))
      section->fail(kind, "rotary parameters per kind of layer are not supported");
  }

  rotary.scaling = scaling_kind(*section, section->has("rope_type") ? "rope_type" : "type");
  if (rotary.scaling == RopeScaling::none) return rotary;
  const bool has_trained_length =
      rotary.scaling == RopeScaling::llama3 || rotary.scaling == RopeScaling::yarn;
  if (has_trained_length) {
    const Config& holder = config.has("original_max_position_embeddings") ? config : *section;
    rotary.original_max_positions =
        holder.size_or("original_max_position_embeddings", most_positions, max_positions);
  }
  if (rotary.scaling == RopeScaling::yarn && !section->has("factor")) {
    rotary.factor =
        static_cast<double>(max_positions) / static_cast<double>(rotary.original_max_positions);
  } else {
    rotary.factor = required(*section, "factor");
  }
  if (rotary.scaling == RopeScaling::dynamic && rotary.rotary_dim <= 2) {
    section->fail("rope_type", "dynamic scaling needs more than 2 rotary elements");
  }
  if (rotary.scaling == RopeScaling::llama3) read_llama3(*section, rotary);
  if (rotary.scaling == RopeScaling::yarn) read_yarn(*section, rotary);
  return rotary;
}

}  // namespace millrace
