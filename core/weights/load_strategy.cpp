#include "core/weights/load_strategy.hpp"

#include <fmt/format.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

struct KnownFileSystem {
  std::uint32_t magic;  // statfs(2)'s f_type
  const char* name;
  bool is_on_network;
};

constexpr std::array known_file_systems = {
    KnownFileSystem{0x6969, "nfs", true},
    KnownFileSystem{0x0bd00bd3, "lustre", true},
    KnownFileSystem{0x47504653, "gpfs", true},
    KnownFileSystem{0x19830326, "beegfs", true},
    KnownFileSystem{0x00c36400, "ceph", true},
    KnownFileSystem{0xaad7aaea, "panfs", true},
    KnownFileSystem{0xfe534d42, "smb2", true},
    KnownFileSystem{0xff534d42, "cifs", true},
    KnownFileSystem{0x01021997, "9p", true},
    KnownFileSystem{0x5346414f, "afs", true},
    // Object stores and most parallel file systems without a kernel module of their own.
    KnownFileSystem{0x65735546, "fuse", true},
    KnownFileSystem{0xef53, "ext4", false},
    KnownFileSystem{0x58465342, "xfs", false},
    KnownFileSystem{0x9123683e, "btrfs", false},
    KnownFileSystem{0x2fc12fc1, "zfs", false},
    KnownFileSystem{0x01021994, "tmpfs", false},
    KnownFileSystem{0x794c7630, "overlay", false},
};

const char* name_of(LoadStrategy strategy) {
  return strategy == LoadStrategy::broadcast ? "broadcast" : "read";
}

}  // namespace

FileSystem file_system_of(const std::filesystem::path& path) {
  struct statfs status {};
  if (::statfs(path.c_str(), &status) != 0) {
    throw UserError("{}: {}", path.string(), std::strerror(errno));
  }
  const auto magic = static_cast<std::uint32_t>(status.f_type);
  const auto known = std::ranges::find_if(
      known_file_systems,
      [magic](const KnownFileSystem& candidate) { return candidate.magic == magic; });
  if (known == known_file_systems.end()) return {fmt::format("{:#x}", magic), false};
  return {known->name, known->is_on_network};
}

LoadChoice choose_load_strategy(const LoadQuestion& question) {
  const auto choice = [](LoadStrategy strategy, const std::string& why) {
    return LoadChoice{strategy, fmt::format("{}: {}", name_of(strategy), why)};
  };
  if (question.asked != LoadStrategy::automatic) return choice(question.asked, "as given");
  if (question.is_made_up) return choice(LoadStrategy::read, "made-up weights are in no file");
  if (!question.has_sharers) return choice(LoadStrategy::read, "no two ranks need the same bytes");
  if (question.sharing_hosts == 1) {
    return choice(LoadStrategy::read, "ranks that need the same bytes share a host's page cache");
  }
  const FileSystem& files = question.file_system;
  if (!files.is_on_network) {
    return choice(LoadStrategy::read,
                  fmt::format("a file system of type {} serves each host on its own", files.name));
  }
  return choice(LoadStrategy::broadcast,
                fmt::format("ranks on {} hosts need the same bytes of a {} file system",
                            question.sharing_hosts, files.name));
}

}  // namespace millrace
