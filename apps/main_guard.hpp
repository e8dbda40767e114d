// What stands between a program without MPI and its exit code. (Programs of many ranks:
// comm/run_main.hpp.)
#pragma once

#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>

#include "comm/error_message.hpp"
#include "comm/exit_code.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

// Runs `body` and answers its exit code. What it throws becomes one line on stderr and the exit
// code 2 (UserError, or a path that may not be looked at) or 1 (anything else).
inline int guarded_main(const char* program, const std::function<int()>& body) {
  try {
    return body();
  } catch (const UserError& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what());
    return exit_code::users_mistake;
  } catch (const std::filesystem::filesystem_error& error) {
    fmt::print(stderr, "{}: {}\n", program, error_message(error));
    return exit_code::users_mistake;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what());
    return exit_code::internal_error;
  }
}

}  // namespace millrace
