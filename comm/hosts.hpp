// What this process can learn of its host without asking anybody.
#pragma once

#include <string>

namespace millrace {

// The host's name as gethostname(2) gives it.
std::string host_name();

}  // namespace millrace
