// Cosines and sines of rotary positions, computed as transformers does (inverse frequencies and
// angles in f32) for every kind of scaling.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/model_spec.hpp"

namespace millrace {

// The table [positions, rotary_dim] f32: in row p, cos(p * f_i) * s for i < rotary_dim / 2, then
// sin(p * f_i) * s, s being yarn's attention factor (else 1). "dynamic" scaling takes the length
// max(positions, original_max_positions) for all rows, where transformers takes the longest
// sequence seen so far: a row never depends on what else is in the batch.
std::vector<float> rope_table(const RotarySpec& rotary, std::int64_t positions);

}  // namespace millrace
