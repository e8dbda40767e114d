#include "core/io/posix_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernels/base/error.hpp"

namespace millrace {
namespace {

[[noreturn]] void fail(std::string_view action, const std::filesystem::path& path, int reason) {
  throw UserError("cannot {} {}: {}", action, path.string(), std::strerror(reason));
}

int open_retrying(const char* path, int flags) {
  int descriptor = -1;
  do {
    descriptor = ::open(path, flags | O_CLOEXEC, S_IRUSR | S_IWUSR);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

}  // namespace

PosixFile::PosixFile(int descriptor, std::filesystem::path path)
    : descriptor_(descriptor), path_(std::move(path)) {}

PosixFile PosixFile::open(const std::filesystem::path& path) {
  const int descriptor = open_retrying(path.c_str(), O_RDONLY);
  if (descriptor < 0) {
    fail("open", path, errno);
  }
  PosixFile file(descriptor, path);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) {
    fail("open", path, errno);
  }
  if (S_ISDIR(status.st_mode)) {
    fail("open", path, EISDIR);
  }
  return file;
}

PosixFile PosixFile::create(const std::filesystem::path& path, bool exclusive) {
  // A link here was left by somebody else: what it points to is not ours to empty.
  const int descriptor =
      open_retrying(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | (exclusive ? O_EXCL : O_TRUNC));
  if (descriptor < 0) {
    fail("create", path, errno);
  }
  PosixFile file(descriptor, path);
  if (::fchmod(descriptor, S_IRUSR | S_IWUSR) != 0) {  // an older file may be for others to read
    fail("create", path, errno);
  }
  return file;
}

std::optional<PosixFile> PosixFile::open_to_lock(const std::filesystem::path& path) {
  const int descriptor = open_retrying(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW);
  if (descriptor >= 0) {
    return PosixFile(descriptor, path);
  }
  if (errno == ENOENT) {
    return std::nullopt;
  }
  fail("open", path, errno);
}

PosixFile PosixFile::temporary(const std::filesystem::path& folder) {
  // mkstemp and unlink, not O_TMPFILE: NFS and some cluster file systems have no O_TMPFILE.
  std::string name = (folder / "sort-XXXXXX").string();
  const int descriptor = ::mkostemp(name.data(), O_CLOEXEC);
  if (descriptor < 0) {
    fail("create", name, errno);
  }
  ::unlink(name.c_str());
  return {descriptor, name};
}

PosixFile::~PosixFile() {
  if (is_open()) {
    ::close(descriptor_);
  }
}

PosixFile::PosixFile(PosixFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}

PosixFile& PosixFile::operator=(PosixFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(path_, other.path_);
  return *this;
}

std::int64_t PosixFile::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    fail("read", path_, errno);
  }
  return status.st_size;
}

std::size_t PosixFile::read_at(std::int64_t position, std::span<std::byte> bytes) const {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::pread(descriptor_, bytes.data() + done, bytes.size() - done,
                                  position + static_cast<std::int64_t>(done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      fail("read", path_, errno);
    }
    if (count == 0) {
      break;
    }
    done += static_cast<std::size_t>(count);
  }
  return done;
}

bool PosixFile::try_lock(bool shared) {
  return ::flock(descriptor_, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

bool PosixFile::has_its_name() const {
  struct stat mine {};
  struct stat named {};
  return ::fstat(descriptor_, &mine) == 0 && ::stat(path_.c_str(), &named) == 0 &&
         mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

void PosixFile::replace_contents(std::string_view text) {
  if (::ftruncate(descriptor_, 0) == 0) {
    [[maybe_unused]] const ssize_t count = ::pwrite(descriptor_, text.data(), text.size(), 0);
  }
}

void PosixFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      fail("write", path_, count == 0 ? ENOSPC : errno);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void PosixFile::sync() {
  while (::fdatasync(descriptor_) != 0) {
    if (errno != EINTR) {
      fail("write", path_, errno);
    }
  }
}

void PosixFile::close() {
  // A failed close has closed the descriptor all the same (Linux): never again.
  if (is_open() && ::close(std::exchange(descriptor_, -1)) != 0) {
    fail("write", path_, errno);
  }
}

void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = open_retrying(folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (descriptor >= 0) {
    ::fsync(descriptor);
    ::close(descriptor);
  }
}

void rename_file(const std::filesystem::path& from, const std::filesystem::path& to,
                 bool overwrite) {
  if (!overwrite) {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) {
      return;
    }
    // EINVAL: a file system without RENAME_NOREPLACE (NFS). Look first, then rename.
    if (errno != EEXIST && errno != EINVAL) {
      fail("write", to, errno);
    }
    refuse_existing(to);
  }
  if (::rename(from.c_str(), to.c_str()) != 0) {
    fail("write", to, errno);
  }
}

void refuse_existing(const std::filesystem::path& path) {
  if (std::filesystem::exists(std::filesystem::symlink_status(path))) {
    throw UserError("{} exists already (--overwrite replaces it)", path.string());
  }
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

}  // namespace millrace
