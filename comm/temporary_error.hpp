// An error that goes away by itself: nothing is wrong with the command, and the same one succeeds
// later. Ends the job with one line, as a UserError does, but with exit_code::stopped.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace millrace {

class TemporaryError : public std::runtime_error {
 public:
  template <typename... Args>
  explicit TemporaryError(fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}
};

}  // namespace millrace
