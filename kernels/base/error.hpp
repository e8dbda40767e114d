// Exceptions. A UserError is somebody's mistake outside the program (a flag, a file, a value): its
// message is one line that carries the offending values, main prints it once and exits with 2.
// Everything else that is thrown is a bug or a failing machine.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace millrace {

class UserError : public std::runtime_error {
 public:
  explicit UserError(const std::string& message) : std::runtime_error(message) {}

  template <typename... Args>
  explicit UserError(fmt::format_string<Args...> format, Args&&... args)
      : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}
};

// An op was called with tensors that do not fit together: a bug of the caller.
class ShapeError : public std::logic_error {
 public:
  explicit ShapeError(const std::string& message) : std::logic_error(message) {}
};

}  // namespace millrace
