#include "core/io/line_count.hpp"

#include <algorithm>
#include <vector>

#include "core/io/posix_file.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

std::int64_t count_lines(const std::filesystem::path& file, ByteRange range) {
  const PosixFile in = PosixFile::open(file);
  std::vector<std::byte> block(1 << 20);
  std::int64_t lines = 0;
  bool inside = false;  // the last byte was in a line without its newline yet
  for (std::int64_t at = range.begin; at < range.end;) {
    const auto wanted = std::min<std::int64_t>(range.end - at, std::ssize(block));
    const auto bytes = std::span(block).first(static_cast<std::size_t>(wanted));
    const std::size_t count = in.read_at(at, bytes);
    if (count < bytes.size()) {
      throw UserError("{} is shorter than it was: {} bytes", file.string(),
                      at + static_cast<std::int64_t>(count));
    }
    lines += std::ranges::count(bytes, std::byte{'\n'});
    inside = bytes.back() != std::byte{'\n'};
    at += wanted;
  }
  return lines + (inside ? 1 : 0);
}

}  // namespace millrace
