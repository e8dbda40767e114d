// Memory that processes of one host share. It has no name in any file system: the kernel frees it
// with the last process, however that ends, and the size limits of /dev/shm in containers do not
// apply.
#pragma once

#include <cstddef>
#include <optional>

#include "comm/comm.hpp"

namespace millrace {

// A file in memory, for as long as the descriptor is open.
class MemoryFile {
 public:
  MemoryFile() = default;
  explicit MemoryFile(std::size_t bytes);   // throws std::runtime_error
  MemoryFile(int process, int descriptor);  // another process's; is_open() tells whether it worked
  ~MemoryFile();
  MemoryFile(MemoryFile&& other) noexcept;
  MemoryFile& operator=(MemoryFile&& other) noexcept;

  bool is_open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_ = -1;
};

// A file in memory, mapped. Pages that nobody touched cost nothing.
class SharedSegment {
 public:
  SharedSegment() = default;
  SharedSegment(const MemoryFile& file, std::size_t bytes);  // empty when it cannot be mapped
  ~SharedSegment();
  SharedSegment(SharedSegment&& other) noexcept;
  SharedSegment& operator=(SharedSegment&& other) noexcept;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// The same zeroed bytes on all ranks; the first 64 are taken. nullopt on all ranks when some rank
// cannot reach rank 0's memory. Collective over `comm`, whose ranks are on one host.
std::optional<SharedSegment> share_segment(HostTransport& comm, std::size_t bytes);
std::optional<SharedSegment> share_segment(const Comm& comm, std::size_t bytes);

}  // namespace millrace
