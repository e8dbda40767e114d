// The rotary settings of a config, in the words of transformers 5 (rope_parameters) or 4
// (rope_theta and rope_scaling).
#pragma once

#include "core/model/config.hpp"
#include "core/model/model_spec.hpp"

namespace millrace {

// Throws UserError for a kind of scaling that is not known and for missing or impossible
// parameters.
RotarySpec read_rotary(const Config& config, int head_dim, std::int64_t max_positions);

}  // namespace millrace
