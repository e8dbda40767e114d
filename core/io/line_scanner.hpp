// The lines of a byte range of a file, read in blocks: a line belongs to the range that holds its
// first byte, so any tiling of the file by ranges gives every line exactly once, wherever the cuts
// fall. Memory: one block, or the longest line where that is longer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "core/io/posix_file.hpp"

namespace millrace {

class LineScanner {
 public:
  // Throws UserError when the file cannot be opened.
  LineScanner(const std::filesystem::path& path, std::int64_t max_line_bytes,
              std::size_t block_bytes = 1 << 20);

  std::int64_t file_bytes() const { return file_bytes_; }

  // Moves to the first line that begins in [begin, end).
  void start(std::int64_t begin, std::int64_t end);

  struct Line {
    std::int64_t offset = 0;  // of its first byte in the file
    std::int64_t bytes = 0;   // to where the next line begins: newline included
    // Without the newline, and without a byte order mark at the start of the file. Valid until the
    // next call. Empty when too_long.
    std::string_view text;
    bool too_long = false;  // more than max_line_bytes
  };
  // The next line that begins in the range; the last line of a file needs no newline.
  // Throws UserError when the file cannot be read or is shorter than it was.
  std::optional<Line> next();

  // Where the next line begins: bytes of the file before it have been read.
  std::int64_t position() const { return at_; }

 private:
  bool extend(std::int64_t from);
  void skip_line(std::int64_t limit);

  PosixFile file_;
  std::int64_t file_bytes_ = 0;
  std::size_t max_line_bytes_ = 0;
  std::size_t block_bytes_ = 0;
  std::int64_t at_ = 0;
  std::int64_t end_ = 0;
  std::vector<std::byte> buffer_;
  std::int64_t buffer_at_ = 0;  // position of the buffer's first byte in the file
};

}  // namespace millrace
