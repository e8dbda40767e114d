// MPI's return codes as exceptions. Only comm's .cpp files include this.
#pragma once

#include <mpi.h>

#include <array>
#include <stdexcept>
#include <string>

namespace millrace {

inline void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw std::runtime_error(std::string(call) + " failed: " + text.data());
}

}  // namespace millrace
