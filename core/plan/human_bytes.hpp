// Sizes for people.
#pragma once

#include <cstdint>
#include <string>

namespace millrace {

// "512 B", "93.8 MiB", "1.25 GiB".
std::string human_bytes(std::int64_t bytes);

}  // namespace millrace
