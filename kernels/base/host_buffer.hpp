// Owned host memory that a device copies from and to without stopping the host: pinned for CUDA,
// plain for the CPU. For staging areas that live as long as the engine; pinning takes milliseconds.
#pragma once

#include <cstddef>

#include "kernels/base/device.hpp"

namespace millrace {

class HostBuffer {
 public:
  HostBuffer() = default;
  // Throws a UserError naming the size when the memory cannot be had (or pinned).
  HostBuffer(std::size_t bytes, Device device);
  ~HostBuffer();
  HostBuffer(HostBuffer&& other) noexcept;
  HostBuffer& operator=(HostBuffer&& other) noexcept;
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  Device device_;
};

}  // namespace millrace
