#include "kernels/linear_plan_file.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <random>
#include <string_view>

#include "kernels/base/backend.hpp"

namespace millrace {
namespace {

// Fowler, Noll and Vo's hash, in 64 bits.
std::string checksum(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("{:016x}", hash);
}

// Hosts may share the folder, and then process ids too.
std::string name_of_its_own(const std::string& path) {
  std::random_device random;
  return fmt::format("{}.{:08x}{:08x}", path, random(), random());
}

}  // namespace

std::vector<std::string> read_plan_lines(const std::string& path, const std::string& signature) {
  std::vector<std::string> plans;
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line) || line != signature) return plans;
  while (std::getline(file, line)) {
    const std::size_t space = line.rfind(' ');
    if (space == std::string::npos) continue;
    const std::string_view plan = std::string_view(line).substr(0, space);
    if (line.substr(space + 1) == checksum(plan)) plans.emplace_back(plan);
  }
  return plans;
}

void write_plan_lines(const std::string& path, const std::string& signature,
                      const std::vector<std::string>& plans) {
  const std::string unfinished = name_of_its_own(path);
  std::ofstream file(unfinished);
  file << signature << '\n';
  for (const std::string& plan : plans) file << plan << ' ' << checksum(plan) << '\n';
  file.close();
  if (file && std::rename(unfinished.c_str(), path.c_str()) == 0) return;
  const int error = errno;
  std::remove(unfinished.c_str());
  errno = error;
  throw_cannot_write(path);
}

}  // namespace millrace
