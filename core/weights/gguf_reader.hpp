// Reads a GGUF header front to back through a window, checking every step against the file's size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/weights/checkpoint_file.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

class GgufReader {
 public:
  // The file must outlive the reader.
  explicit GgufReader(const CheckpointFile& file) : file_(file) {}

  std::int64_t position() const { return position_; }

  // All of these throw the UserError of fail(), naming `what`, when the file ends before.
  template <typename T>
  T number(const char* what) {
    T value;
    read(reinterpret_cast<std::byte*>(&value), sizeof value, what);
    return value;
  }

  // Length and bytes.
  std::string string(const char* what);

  // A count of things of which each takes at least `bytes_each` of what is left of the file.
  std::size_t count(std::int64_t bytes_each, const char* what);

  // Throws the UserError "<file>: GGUF header: ...".
  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw UserError("{}: GGUF header: {}", file_.path().string(),
                    fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  std::int64_t limit() const;
  void require(std::int64_t wanted, const char* what) const;
  void read(std::byte* to, std::size_t wanted, const char* what);
  void refill();

  const CheckpointFile& file_;
  std::vector<std::byte> window_;
  std::size_t used_ = 0;
  std::int64_t position_ = 0;
};

}  // namespace millrace
