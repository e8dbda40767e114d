// A file read by position. Checkpoints are read with pread and never mapped, so that a file that is
// cut short, also while it is being read, is an error with a name and not a SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace millrace {

class CheckpointFile {
 public:
  // Opens a regular file for reading. Throws UserError with the system's reason.
  explicit CheckpointFile(const std::filesystem::path& path);
  ~CheckpointFile();
  CheckpointFile(CheckpointFile&& other) noexcept;
  CheckpointFile& operator=(CheckpointFile&&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::int64_t bytes() const { return bytes_; }  // when it was opened

  // Fills `to` from `offset`. Any number of threads may read at once. Throws UserError when the
  // file ends before, naming it, its size and the bytes that were wanted.
  void read(std::int64_t offset, std::span<std::byte> to) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::int64_t bytes_ = 0;
};

}  // namespace millrace
