#include "core/job/host_resources.hpp"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <set>
#include <sstream>
#include <string>

namespace millrace {
namespace {

namespace fs = std::filesystem;

std::optional<std::int64_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  std::int64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;  // "max" is no number
}

// The number behind `key` in a file of "key value" or "key: value kB" lines.
std::optional<std::int64_t> read_field(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    std::int64_t number = 0;
    if (words >> name >> number && name == key) {
      return number;
    }
  }
  return std::nullopt;
}

// What one control group leaves: its limit less what is used, of which page cache can be dropped.
std::optional<std::int64_t> left_in_group(const fs::path& folder) {
  const auto v2 = fs::exists(folder / "memory.max");
  const auto limit = read_number(folder / (v2 ? "memory.max" : "memory.limit_in_bytes"));
  const auto used = read_number(folder / (v2 ? "memory.current" : "memory.usage_in_bytes"));
  if (!limit || !used) {
    return std::nullopt;
  }
  const auto droppable =
      read_field(folder / "memory.stat", v2 ? "inactive_file" : "total_inactive_file");
  return std::max<std::int64_t>(0, *limit - *used + droppable.value_or(0));
}

}  // namespace

std::int64_t available_memory_bytes(const fs::path& root) {
  std::int64_t bytes = std::numeric_limits<std::int64_t>::max();
  if (const auto kibibytes = read_field(root / "proc/meminfo", "MemAvailable:")) {
    bytes = *kibibytes * 1024;
  }
  // "0::/a/b" (version 2) or "5:memory:/a/b" (version 1): that group and all above it count.
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) {
      continue;
    }
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && controllers != "memory") {
      continue;
    }
    const fs::path top = root / (controllers.empty() ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
    // In a container the path is often that of the host, and only the top exists: go up until it
    // does.
    for (fs::path group = fs::path(line.substr(second + 1)).relative_path();;
         group = group.parent_path()) {
      if (const auto left = left_in_group(top / group)) {
        bytes = std::min(bytes, *left);
      }
      if (group.empty()) {
        break;
      }
    }
  }
  return bytes;
}

std::vector<int> allowed_cores(int process) {
  std::vector<int> cores;
  cpu_set_t set;
  if (sched_getaffinity(process, sizeof(set), &set) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (CPU_ISSET(core, &set)) {
        cores.push_back(core);
      }
    }
  }
  return cores;
}

int threads_of(const std::vector<std::vector<int>>& cores_of_ranks, int rank) {
  const std::vector<int>& mine = cores_of_ranks[static_cast<std::size_t>(rank)];
  const auto meets_mine = [&](const std::vector<int>& other) {
    return std::ranges::any_of(
        other, [&](int core) { return std::ranges::find(mine, core) != mine.end(); });
  };
  const auto sharers = std::ranges::count_if(cores_of_ranks, meets_mine);
  return std::max(1, static_cast<int>(mine.size()) / std::max(1, static_cast<int>(sharers)));
}

CoreShare share_cores(const Comm& node) {
  const std::vector<int> mine = allowed_cores();
  std::vector<std::vector<int>> all;
  std::set<int> together;
  for (const Bytes& bytes : node.all_gather_bytes(std::as_bytes(std::span(mine)))) {
    std::vector<int> cores(bytes.size() / sizeof(int));
    std::memcpy(cores.data(), bytes.data(), bytes.size());
    together.insert(cores.begin(), cores.end());
    all.push_back(std::move(cores));
  }
  CoreShare share;
  share.threads = threads_of(all, node.rank());
  share.ranks_cores = static_cast<int>(together.size());
  // Open MPI's daemon starts its ranks and is itself not bound; other launchers' parents say
  // nothing.
  const bool has_daemon = std::getenv("OMPI_COMM_WORLD_RANK") != nullptr;
  share.launcher_cores =
      has_daemon ? std::max(share.ranks_cores, static_cast<int>(allowed_cores(getppid()).size()))
                 : share.ranks_cores;
  return share;
}

double seconds_since_start() {
  // Field 22 of stat, counted behind the name in parentheses, is the start in clock ticks after
  // boot.
  std::ifstream stat("/proc/self/stat");
  std::string text;
  std::getline(stat, text);
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) {
    return 0;
  }
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int number = 3; number <= 22; ++number) {
    fields >> field;
  }
  double ticks = 0;
  std::from_chars(field.data(), field.data() + field.size(), ticks);
  timespec now{};
  if (ticks <= 0 || clock_gettime(CLOCK_BOOTTIME, &now) != 0) {
    return 0;
  }
  const double start = ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) - start;
}

}  // namespace millrace
