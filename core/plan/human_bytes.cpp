#include "core/plan/human_bytes.hpp"

#include <fmt/format.h>

namespace millrace {

std::string human_bytes(std::int64_t bytes) {
  if (bytes < 1024) {
    return fmt::format("{} B", bytes);
  }
  auto value = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* next : {"KiB", "MiB", "GiB", "TiB"}) {
    unit = next;
    value /= 1024;
    if (value < 1023.95) {
      break;
    }
  }
  return value < 10 ? fmt::format("{:.2f} {}", value, unit) : fmt::format("{:.1f} {}", value, unit);
}

}  // namespace millrace
