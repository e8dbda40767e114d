#include "core/weights/gguf_reader.hpp"

#include <algorithm>
#include <cstring>

namespace millrace {
namespace {

constexpr std::int64_t longest_string = std::int64_t{64} << 20;
constexpr std::int64_t largest_header = std::int64_t{1} << 30;
constexpr std::int64_t window_bytes = std::int64_t{1} << 20;

}  // namespace

std::string GgufReader::string(const char* what) {
  const auto length = number<std::uint64_t>(what);
  if (length > static_cast<std::uint64_t>(longest_string)) {
    fail("{} has {} bytes, the limit is {}", what, length, longest_string);
  }
  require(static_cast<std::int64_t>(length), what);
  std::string text(length, '\0');
  read(reinterpret_cast<std::byte*>(text.data()), text.size(), what);
  return text;
}

std::size_t GgufReader::count(std::int64_t bytes_each, const char* what) {
  const auto value = number<std::uint64_t>(what);
  const auto most = static_cast<std::uint64_t>((limit() - position_) / bytes_each);
  if (value > most) fail("{} is {}, more than the file can hold", what, value);
  return value;
}

std::int64_t GgufReader::limit() const { return std::min(file_.bytes(), largest_header); }

void GgufReader::require(std::int64_t wanted, const char* what) const {
  if (wanted <= limit() - position_) return;
  if (limit() < file_.bytes()) fail("larger than the limit of {} bytes", largest_header);
  fail("truncated in {} at byte {} of {}", what, position_, file_.bytes());
}

void GgufReader::read(std::byte* to, std::size_t wanted, const char* what) {
  require(static_cast<std::int64_t>(wanted), what);
  while (wanted > 0) {
    if (used_ == window_.size()) refill();
    const std::size_t part = std::min(wanted, window_.size() - used_);
    std::memcpy(to, window_.data() + used_, part);
    to += part;
    used_ += part;
    wanted -= part;
    position_ += static_cast<std::int64_t>(part);
  }
}

void GgufReader::refill() {
  window_.resize(static_cast<std::size_t>(std::min(window_bytes, file_.bytes() - position_)));
  file_.read(position_, window_);
  used_ = 0;
}

}  // namespace millrace
