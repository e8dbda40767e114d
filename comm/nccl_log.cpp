#include "comm/nccl_log.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>

#include "comm/hosts.hpp"
#include "comm/link_kind.hpp"

namespace millrace {
namespace {

// Takes `text` up to `mark` off its front; nullopt when there is no such mark.
std::optional<std::string_view> take_until(std::string_view& text, std::string_view mark) {
  const std::size_t at = text.find(mark);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view before = text.substr(0, at);
  text.remove_prefix(at + mark.size());
  return before;
}

// The rank of "12[3]" (the number in brackets is the GPU's).
std::optional<int> rank_of(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  int rank = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rank);
  if (error != std::errc() || rank < 0) return std::nullopt;
  return rank;
}

std::optional<Route> route_of(std::string_view line) {
  if (!take_until(line, "NCCL INFO Channel ") || !take_until(line, " : ")) return std::nullopt;
  const auto from = take_until(line, " -> ");
  const auto to = take_until(line, " via ");
  if (!from || !to) return std::nullopt;
  const std::optional<int> first = rank_of(*from);
  const std::optional<int> second = rank_of(*to);
  const std::string_view way = line.substr(0, line.find_first_of(" \r"));
  if (!first || !second || way.empty()) return std::nullopt;
  return Route{*first, *second, std::string(way)};
}

// NCCL's own expansion of NCCL_DEBUG_FILE.
std::string expand(std::string_view pattern) {
  std::string path;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%' || i + 1 == pattern.size()) {
      path += pattern[i];
      continue;
    }
    const char kind = pattern[++i];
    if (kind == 'h') {
      path += host_name();
    } else if (kind == 'p') {
      path += std::to_string(getpid());
    } else {
      path += kind == '%' ? "%" : std::string{'%', kind};
    }
  }
  return path;
}

std::string variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

std::vector<Route> routes_in_nccl_log(std::string_view log) {
  std::vector<Route> routes;
  while (!log.empty()) {
    const std::size_t end = std::min(log.find('\n'), log.size());
    const std::optional<Route> route = route_of(log.substr(0, end));
    log.remove_prefix(std::min(end + 1, log.size()));
    if (!route) continue;
    const auto known = std::find_if(routes.begin(), routes.end(), [&](const Route& other) {
      return other.from == route->from && other.to == route->to;
    });
    if (known == routes.end()) {
      routes.push_back(*route);
    } else if (link_kind(route->way) < link_kind(known->way)) {
      known->way = route->way;
    }
  }
  return routes;
}

NcclLog& NcclLog::instance() {
  static NcclLog log;
  return log;
}

void NcclLog::open() {
  if (opened_) return;
  opened_ = true;
  const std::string level = variable("NCCL_DEBUG");
  if (level == "INFO" || level == "TRACE") {
    const std::string file = variable("NCCL_DEBUG_FILE");
    path_ = expand(file);
    obstacle_ = !file.empty() ? ""
                              : "NCCL_DEBUG=" + level +
                                    " without NCCL_DEBUG_FILE sends NCCL's log to stdout, where "
                                    "it cannot be read";
    return;
  }
  // Stays open as long as the process, as NCCL does.
  const int file = memfd_create("nccl-log", MFD_CLOEXEC);
  if (file < 0) {
    obstacle_ = "there is no memory file for NCCL's log";
    return;
  }
  path_ = "/proc/self/fd/" + std::to_string(file);
  setenv("NCCL_DEBUG", "INFO", 1);
  setenv("NCCL_DEBUG_SUBSYS", "INIT,P2P,SHM,NET", 1);
  setenv("NCCL_DEBUG_FILE", path_.c_str(), 1);
  obstacle_.clear();
}

std::size_t NcclLog::size() const {
  struct stat status {};
  return stat(path_.c_str(), &status) == 0 ? static_cast<std::size_t>(status.st_size) : 0;
}

std::string NcclLog::since(std::size_t begin) const {
  const int file = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return "";
  std::string text(std::max(size(), begin) - begin, '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count =
        pread(file, text.data() + done, text.size() - done, static_cast<off_t>(begin + done));
    if (count <= 0) break;
    done += static_cast<std::size_t>(count);
  }
  close(file);
  text.resize(done);
  return text;
}

}  // namespace millrace
