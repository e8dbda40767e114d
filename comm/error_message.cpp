#include "comm/error_message.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <new>
#include <system_error>

namespace millrace {

std::string error_message(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return fmt::format("out of memory: the host gives no more ({})", error.what());
  }
  if (const auto* path = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) {
    return fmt::format("{}: {}", path->path1().string(), path->code().message());
  }
  const auto* system = dynamic_cast<const std::system_error*>(&error);
  if (system != nullptr && system->code() == std::errc::resource_unavailable_try_again) {
    return fmt::format("a limit of the host on memory or threads is reached: {}", error.what());
  }
  return error.what();
}

}  // namespace millrace
