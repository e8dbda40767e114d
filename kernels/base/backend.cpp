#include "kernels/base/backend.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/base/buffer.hpp"
#include "kernels/base/dispatch.hpp"

namespace millrace {

void throw_backend_not_built(const char* op) {
  throw UserError("{}: this binary was built without the CUDA backend (MILLRACE_CUDA=OFF)", op);
}

void throw_no_kernel(const char* op, DType dtype) {
  throw ShapeError(fmt::format("{}: no CUDA kernel for {}", op, name(dtype)));
}

void throw_cannot_write(const std::string& path) {
  throw UserError("cannot write {}: {}", path, std::strerror(errno));
}

void throw_out_of_device_memory(const std::string& call) {
  throw UserError("out of memory on the GPU: {} gets none", call);
}

std::string to_string(Device device) {
  return device.is_cpu() ? "cpu" : fmt::format("cuda:{}", device.index);
}

bool cuda_is_built() {
#ifdef MILLRACE_HAS_CUDA
  return true;
#else
  return false;
#endif
}

int cuda_device_count() {
  return cuda_is_built() ? MILLRACE_DISPATCH(Device::cuda(0), device_count) : 0;
}

bool device_is_supported(Device gpu) { return MILLRACE_DISPATCH(gpu, has_code_for, gpu); }

std::int64_t device_memory_bytes(Device device) {
  return MILLRACE_DISPATCH(device, memory_bytes, device);
}

std::int64_t free_device_memory_bytes(Device device) {
  return MILLRACE_DISPATCH(device, free_memory_bytes, device);
}

Buffer::Buffer(std::size_t bytes, Device device) : bytes_(bytes), device_(device) {
  if (bytes == 0) return;
  data_ = MILLRACE_DISPATCH(device, allocate, bytes, device);
  if (data_ == nullptr) {
    throw UserError("out of memory on {}: cannot allocate {:.2f} MiB", to_string(device),
                    static_cast<double>(bytes) / (1U << 20U));
  }
}

Buffer::~Buffer() { release(); }

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      device_(other.device_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    release();
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    device_ = other.device_;
  }
  return *this;
}

void Buffer::release() noexcept {
  if (data_ != nullptr) MILLRACE_DISPATCH(device_, release, data_, bytes_, device_);
}

void copy_bytes(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes,
                Stream stream) {
  if (bytes == 0) return;
  const Device device = to_device.is_cuda() ? to_device : from_device;
  MILLRACE_DISPATCH(device, copy_bytes, to, to_device, from, from_device, bytes, stream);
}

void fill_bytes(void* to, int value, std::size_t bytes, Stream stream) {
  if (bytes == 0) return;
  MILLRACE_DISPATCH(stream.device, fill_bytes, to, value, bytes, stream);
}

OwnedStream::OwnedStream(Device device)
    : stream_{device, MILLRACE_DISPATCH(device, create_stream, device)} {}

OwnedStream::~OwnedStream() { MILLRACE_DISPATCH(stream_.device, destroy_stream, stream_); }

void synchronize(Stream stream) { MILLRACE_DISPATCH(stream.device, synchronize, stream); }

}  // namespace millrace
