#include "core/config/sampling_defaults.hpp"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

void read_generation_config(const std::filesystem::path& path, SamplingParams& params) {
  std::ifstream file(path);
  if (!file) {
    return;
  }
  const auto config = nlohmann::json::parse(file, nullptr, false);
  if (!config.is_object()) {
    throw UserError("{}: is not a JSON object", path.string());
  }
  const auto take = [&](const char* field, auto& value) {
    const auto found = config.find(field);
    if (found == config.end() || found->is_null()) {
      return;
    }
    if (!found->is_number()) {
      throw UserError("{}: {} is {}, not a number", path.string(), field, found->dump());
    }
    using Number = std::decay_t<decltype(value)>;
    const auto number = found->get<double>();
    if (std::is_integral_v<Number> && (number != std::floor(number) || std::abs(number) > 1e9)) {
      throw UserError("{}: {} is {}, not a whole number within a billion", path.string(), field,
                      found->dump());
    }
    value = static_cast<Number>(number);
  };
  take("temperature", params.temperature);
  take("top_k", params.top_k);
  take("top_p", params.top_p);
  take("min_p", params.min_p);
  take("repetition_penalty", params.repetition_penalty);
  take("max_new_tokens", params.max_tokens);
  try {
    validate(params);
  } catch (const UserError& error) {
    throw UserError("{}: {}", path.string(), error.what());
  }
}

template <typename To, typename From>
void override_with(To& value, const std::optional<From>& flag) {
  if (flag) {
    value = *flag;
  }
}

}  // namespace

SamplingParams sampling_defaults(const SamplingConfig& flags,
                                 const std::filesystem::path& generation_config) {
  SamplingParams params;
  params.max_tokens = default_max_tokens;
  if (flags.generation_config == GenerationConfigUse::automatic && !generation_config.empty()) {
    read_generation_config(generation_config, params);
  }
  override_with(params.temperature, flags.temperature);
  override_with(params.top_k, flags.top_k);
  override_with(params.top_p, flags.top_p);
  override_with(params.min_p, flags.min_p);
  override_with(params.repetition_penalty, flags.repetition_penalty);
  override_with(params.presence_penalty, flags.presence_penalty);
  override_with(params.frequency_penalty, flags.frequency_penalty);
  override_with(params.max_tokens, flags.max_tokens);
  override_with(params.min_tokens, flags.min_tokens);
  override_with(params.ignore_eos, flags.ignore_eos);
  override_with(params.include_stop_str_in_output, flags.include_stop_str_in_output);
  override_with(params.skip_special_tokens, flags.skip_special_tokens);
  override_with(params.logprobs, flags.logprobs);
  override_with(params.n, flags.n);
  params.stop = flags.stop;
  params.stop_token_ids.assign(flags.stop_token_ids.begin(), flags.stop_token_ids.end());
  try {
    validate(params);
  } catch (const UserError& error) {
    throw UserError("sampling flags: {}", error.what());
  }
  return params;
}

}  // namespace millrace
