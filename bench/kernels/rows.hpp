// Each function measures one op at the shapes of SmolLM2-135M and of a model of about 1B
// parameters.
#pragma once

#include "bench/kernels/timing.hpp"

namespace millrace::bench {

void linear_rows(const Ceilings& ceilings);

}  // namespace millrace::bench
