// The families that are known, by the config's model_type: the only place that looks at a model's
// name.
#pragma once

#include "core/model/config.hpp"
#include "core/model/tensor_spec.hpp"

namespace millrace {

// Describes the model of a config. Throws UserError listing the known types when its model_type is
// none of them, and naming the scheme when its weights are quantized in one that is not supported.
ModelDescription describe_config(const Config& config);

}  // namespace millrace
