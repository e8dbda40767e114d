// A file read by position. Checkpoints are read with pread and never mapped, so that a file that is
// cut short, also while it is being read, is an error with a name and not a SIGBUS.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace millrace {

// The beginning of a file, as somebody has read it.
struct FileHead {
  std::string name;        // in its folder
  std::int64_t bytes = 0;  // of the file
  std::vector<std::byte> head;
};

class CheckpointFile {
 public:
  // Opens a regular file for reading. Throws UserError with the system's reason.
  explicit CheckpointFile(const std::filesystem::path& path);
  // The file whose beginning is known: opened when more of it is read, and then it must be as long
  // as it was.
  CheckpointFile(const std::filesystem::path& folder, FileHead known);
  ~CheckpointFile();
  CheckpointFile(const CheckpointFile&) = delete;
  CheckpointFile& operator=(const CheckpointFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::int64_t bytes() const { return bytes_; }  // when it was opened

  // Fills `to` from `offset`. Any number of threads may read at once. Throws UserError when the
  // file ends before, naming it, its size and the bytes that were wanted.
  void read(std::int64_t offset, std::span<std::byte> to) const;

  // From the beginning to the last byte that was read so far.
  FileHead head() const;

 private:
  int descriptor() const;

  std::filesystem::path path_;
  std::int64_t bytes_ = 0;
  std::vector<std::byte> known_;                // the beginning
  mutable std::atomic<int> descriptor_ = -1;    // not opened yet
  mutable std::atomic<std::int64_t> seen_ = 0;  // end of what was read
};

}  // namespace millrace
