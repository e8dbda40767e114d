// Each function measures some ops at the shapes of SmolLM2-135M and of models of about 1B and 8B
// parameters.
#pragma once

#include "bench/kernels/timing.hpp"

namespace millrace::bench {

void linear_rows(const Ceilings& ceilings);
void attention_rows(const Ceilings& ceilings);
void norm_rows(const Ceilings& ceilings);
void activation_rows(const Ceilings& ceilings);
void rope_rows(const Ceilings& ceilings);
void sampling_rows(const Ceilings& ceilings);

}  // namespace millrace::bench
