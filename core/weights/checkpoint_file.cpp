#include "core/weights/checkpoint_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/base/error.hpp"

namespace millrace {

CheckpointFile::CheckpointFile(const std::filesystem::path& path) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor_ < 0) throw UserError("{}: {}", path.string(), std::strerror(errno));
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw UserError("{}: not a regular file", path.string());
  }
  bytes_ = status.st_size;
}

CheckpointFile::~CheckpointFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

CheckpointFile::CheckpointFile(CheckpointFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      bytes_(other.bytes_) {}

void CheckpointFile::read(std::int64_t offset, std::span<std::byte> to) const {
  // Linux transfers at most 2 GiB a call.
  constexpr std::size_t most_per_call = std::size_t{1} << 30;
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t got =
        ::pread(descriptor_, to.data() + done, std::min(to.size() - done, most_per_call),
                offset + static_cast<std::int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      throw UserError("{}: reading {} bytes at {}: {}", path_.string(), to.size(), offset,
                      std::strerror(errno));
    }
    if (got == 0) {
      throw UserError("{}: truncated: bytes {} to {} are missing, the file ends at {}",
                      path_.string(), offset, offset + static_cast<std::int64_t>(to.size()),
                      offset + static_cast<std::int64_t>(done));
    }
    done += static_cast<std::size_t>(got);
  }
}

}  // namespace millrace
