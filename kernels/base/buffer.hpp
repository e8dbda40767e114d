// Owned, uninitialised memory on a device. CPU memory is aligned to 64 bytes and, when large, asked
// of the kernel directly, so that untouched pages cost nothing.
#pragma once

#include <cstddef>

#include "kernels/base/device.hpp"
#include "kernels/base/stream.hpp"

namespace millrace {

class Buffer {
 public:
  Buffer() = default;
  // Throws a UserError naming the device and the size when it cannot be had.
  Buffer(std::size_t bytes, Device device);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

 private:
  void release() noexcept;

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  Device device_;
};

// Copies between any two devices, in the stream's order. Host memory that is not pinned makes a
// copy from or to CUDA synchronous with the host.
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes,
                Stream stream);

// Sets every byte to `value`, in the stream's order.
void fill_bytes(void* to, int value, std::size_t bytes, Stream stream);

}  // namespace millrace
