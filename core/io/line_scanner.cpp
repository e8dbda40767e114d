#include "core/io/line_scanner.hpp"

#include <algorithm>
#include <limits>

#include "kernels/base/error.hpp"

namespace millrace {

LineScanner::LineScanner(const std::filesystem::path& path, std::int64_t max_line_bytes,
                         std::size_t block_bytes)
    : file_(PosixFile::open(path)),
      file_bytes_(file_.size()),
      max_line_bytes_(static_cast<std::size_t>(max_line_bytes)),
      block_bytes_(block_bytes) {
  if (!std::filesystem::is_regular_file(path)) {
    throw UserError("{} is not a regular file", path.string());
  }
}

void LineScanner::start(std::int64_t begin, std::int64_t end) {
  at_ = begin;
  end_ = std::min(end, file_bytes_);
  buffer_.clear();
  buffer_at_ = begin;
  if (begin > 0) {
    // The line that holds the byte before the range belongs to the range before, newline included.
    at_ = begin - 1;
    buffer_at_ = at_;
    skip_line(end_);
  }
}

std::optional<LineScanner::Line> LineScanner::next() {
  if (at_ >= end_) {
    return std::nullopt;
  }
  Line line;
  line.offset = at_;
  for (std::size_t searched = 0;;) {
    const auto from = static_cast<std::size_t>(line.offset - buffer_at_);
    const std::string_view bytes(reinterpret_cast<const char*>(buffer_.data()) + from,
                                 buffer_.size() - from);
    const std::size_t newline = bytes.find('\n', searched);
    const std::size_t length = std::min(newline, bytes.size());
    if (length > max_line_bytes_) {
      line.too_long = true;
      skip_line(std::numeric_limits<std::int64_t>::max());
      line.bytes = at_ - line.offset;
      return line;
    }
    if (newline != std::string_view::npos || !extend(line.offset)) {
      line.text = bytes.substr(0, length);
      line.bytes = static_cast<std::int64_t>(length) + (newline != std::string_view::npos ? 1 : 0);
      at_ = line.offset + line.bytes;
      if (line.offset == 0 && line.text.starts_with("\xEF\xBB\xBF")) {
        line.text.remove_prefix(3);
      }
      return line;
    }
    searched = bytes.size();
  }
}

// Moves at_ behind the next newline, or to the end of the file, or to `limit` when there is no
// newline before. Holds no more than one block.
void LineScanner::skip_line(std::int64_t limit) {
  for (;;) {
    const auto from = static_cast<std::size_t>(at_ - buffer_at_);
    const auto* const begin = buffer_.data() + from;
    const auto* const end = buffer_.data() + buffer_.size();
    const auto* const newline = std::find(begin, end, std::byte{'\n'});
    at_ += newline - begin;
    if (newline != end) {
      ++at_;
      return;
    }
    if (at_ >= limit || !extend(at_)) {
      return;
    }
  }
}

// Reads more behind the buffer and forgets what is before `from`. False at the end of the file.
bool LineScanner::extend(std::int64_t from) {
  const std::int64_t buffer_end = buffer_at_ + static_cast<std::int64_t>(buffer_.size());
  if (buffer_end >= file_bytes_) {
    return false;
  }
  buffer_.erase(buffer_.begin(), buffer_.begin() + (from - buffer_at_));
  buffer_at_ = from;
  const std::size_t kept = buffer_.size();
  if (buffer_.capacity() > 4 * block_bytes_ && kept < block_bytes_) {
    buffer_.shrink_to_fit();  // after a giant line
  }
  // A long line is read in doubling steps, so that its bytes are moved a constant number of times.
  const std::size_t wanted =
      std::min(static_cast<std::size_t>(file_bytes_ - buffer_end), std::max(block_bytes_, kept));
  buffer_.resize(kept + wanted);
  const std::size_t count = file_.read_at(buffer_end, std::span(buffer_).subspan(kept));
  if (count < wanted) {
    throw UserError("{} became shorter while it was read: {} bytes, was {}", file_.path().string(),
                    buffer_end + static_cast<std::int64_t>(count), file_bytes_);
  }
  return true;
}

}  // namespace millrace
