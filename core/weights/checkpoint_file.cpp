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

namespace {

struct Opened {
  int descriptor;
  std::int64_t bytes;
};

Opened open_regular(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw UserError("{}: {}", path.string(), std::strerror(errno));
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw UserError("{}: not a regular file", path.string());
  }
  return {descriptor, status.st_size};
}

}  // namespace

CheckpointFile::CheckpointFile(const std::filesystem::path& path) : path_(path) {
  const Opened opened = open_regular(path);
  descriptor_ = opened.descriptor;
  bytes_ = opened.bytes;
}

CheckpointFile::CheckpointFile(const std::filesystem::path& folder, FileHead known)
    : path_(folder / known.name), bytes_(known.bytes), known_(std::move(known.head)) {}

CheckpointFile::~CheckpointFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

int CheckpointFile::descriptor() const {
  if (descriptor_ >= 0) return descriptor_;
  const Opened opened = open_regular(path_);
  int none = -1;
  if (opened.bytes != bytes_) {
    ::close(opened.descriptor);
    throw UserError("{}: has {} bytes, but {} where its header was read", path_.string(),
                    opened.bytes, bytes_);
  }
  if (!descriptor_.compare_exchange_strong(none, opened.descriptor)) {
    ::close(opened.descriptor);  // another thread was faster
  }
  return descriptor_;
}

FileHead CheckpointFile::head() const {
  FileHead head{path_.filename().string(), bytes_,
                std::vector<std::byte>(static_cast<std::size_t>(seen_.load()))};
  read(0, head.head);
  return head;
}

void CheckpointFile::read(std::int64_t offset, std::span<std::byte> to) const {
  const std::int64_t end = offset + static_cast<std::int64_t>(to.size());
  if (end <= std::ssize(known_)) {
    std::copy_n(known_.begin() + offset, to.size(), to.begin());
    return;
  }
  const int descriptor = this->descriptor();
  for (std::int64_t seen = seen_; seen < end && !seen_.compare_exchange_weak(seen, end);) {
  }
  // Linux transfers at most 2 GiB a call.
  constexpr std::size_t most_per_call = std::size_t{1} << 30;
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t got =
        ::pread(descriptor, to.data() + done, std::min(to.size() - done, most_per_call),
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
