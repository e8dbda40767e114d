#include "comm/hosts.hpp"

#include <unistd.h>

#include <array>

namespace millrace {

std::string host_name() {
  std::array<char, 256> buffer{};
  gethostname(buffer.data(), buffer.size() - 1);
  return buffer.data();
}

}  // namespace millrace
