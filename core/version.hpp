// The version of this build, as `--version` prints it and results record it.
#pragma once

#include <string_view>

namespace millrace {

std::string_view version();

}  // namespace millrace
