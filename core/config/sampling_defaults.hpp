// What a prompt that says nothing gets.
#pragma once

#include <filesystem>

#include "core/batch/sampling_params.hpp"
#include "core/config/run_config.hpp"

namespace millrace {

// Outputs of a prompt for which nobody set a length.
inline constexpr int default_max_tokens = 256;

// SamplingParams' own defaults, then temperature, top_k, top_p, min_p, repetition_penalty and
// max_new_tokens of `generation_config` (a file; unread when the path is empty, when there is none,
// or with --generation-config none), then the flags. Throws UserError naming the file and the
// field, or the flag.
SamplingParams sampling_defaults(const SamplingConfig& flags,
                                 const std::filesystem::path& generation_config);

}  // namespace millrace
