#include "comm/shared_segment.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <stdexcept>
#include <utility>

namespace millrace {

MemoryFile::MemoryFile(std::size_t bytes) : descriptor_(memfd_create("millrace", MFD_CLOEXEC)) {
  if (descriptor_ < 0 || ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0) {
    const int error = errno;
    if (descriptor_ >= 0) close(descriptor_);
    throw std::runtime_error(
        fmt::format("no {} bytes of shared memory: {}", bytes, std::strerror(error)));
  }
}

MemoryFile::MemoryFile(int process, int descriptor)
    : descriptor_(
          open(fmt::format("/proc/{}/fd/{}", process, descriptor).c_str(), O_RDWR | O_CLOEXEC)) {}

MemoryFile::~MemoryFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

MemoryFile::MemoryFile(MemoryFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

MemoryFile& MemoryFile::operator=(MemoryFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

SharedSegment::SharedSegment(const MemoryFile& file, std::size_t bytes) {
  if (!file.is_open()) return;
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.descriptor(), 0);
  if (mapped == MAP_FAILED) return;
  data_ = static_cast<std::byte*>(mapped);
  bytes_ = bytes;
}

SharedSegment::~SharedSegment() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

SharedSegment::SharedSegment(SharedSegment&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

SharedSegment& SharedSegment::operator=(SharedSegment&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

namespace {

template <typename Broadcast, typename AllHold>
std::optional<SharedSegment> share(int rank, std::size_t bytes, const Broadcast& broadcast,
                                   const AllHold& all_hold) {
  struct Address {
    int process = 0;
    int descriptor = -1;
    std::uint64_t mark = 0;  // at the segment's start: proves that the ranks mean the same memory
  };
  Address address;
  MemoryFile file;
  SharedSegment segment;
  if (rank == 0) {
    try {
      file = MemoryFile(bytes);
      segment = SharedSegment(file, bytes);
    } catch (const std::runtime_error&) {
      // The descriptor stays -1, and no rank maps anything.
    }
    if (segment.data() != nullptr) {
      std::random_device random;
      address = {getpid(), file.descriptor(), (std::uint64_t{random()} << 32) | random()};
      std::memcpy(segment.data(), &address.mark, sizeof(address.mark));
    }
  }
  Bytes message(sizeof(address));
  std::memcpy(message.data(), &address, sizeof(address));
  broadcast(message);
  std::memcpy(&address, message.data(), sizeof(address));
  if (rank != 0 && address.descriptor >= 0) {
    segment = SharedSegment(MemoryFile(address.process, address.descriptor), bytes);
  }
  const bool is_shared = segment.data() != nullptr &&
                         std::memcmp(segment.data(), &address.mark, sizeof(address.mark)) == 0;
  if (!all_hold(is_shared)) return std::nullopt;
  return segment;
}

}  // namespace

std::optional<SharedSegment> share_segment(HostTransport& comm, std::size_t bytes) {
  return share(
      comm.rank(), bytes, [&](Bytes& message) { comm.broadcast_bytes(message, 0); },
      [&](bool holds) { return comm.all_reduce_value(holds ? 1 : 0, ReduceOp::min) != 0; });
}

std::optional<SharedSegment> share_segment(const Comm& comm, std::size_t bytes) {
  return share(
      comm.rank(), bytes, [&](Bytes& message) { comm.broadcast_bytes(message, 0); },
      [&](bool holds) { return comm.all_reduce_min(holds ? 1 : 0) != 0; });
}

}  // namespace millrace
