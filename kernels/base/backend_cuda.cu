// Device memory, copies and streams by the CUDA runtime. Allocation is plain cudaMalloc: the engine
// takes all its memory at start-up and never inside a step.
#include <array>

#include "kernels/base/backend.hpp"
#include "kernels/base/cuda_check.hpp"

namespace millrace::cuda {
namespace {

constexpr int max_devices = 64;

int attribute(Device device, cudaDeviceAttr which) {
  int value = 0;
  cuda_check(cudaDeviceGetAttribute(&value, which, device.index), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

void use_device(Device device) {
  thread_local int current = -1;
  if (device.index == current) return;
  cuda_check(cudaSetDevice(device.index), "cudaSetDevice");
  current = device.index;
}

int multiprocessor_count(Device device) {
  static std::array<int, max_devices> counts{};
  int& count = counts.at(static_cast<std::size_t>(device.index));
  if (count == 0) count = attribute(device, cudaDevAttrMultiProcessorCount);
  return count;
}

int compute_capability(Device device) {
  static std::array<int, max_devices> capabilities{};
  int& capability = capabilities.at(static_cast<std::size_t>(device.index));
  if (capability == 0) {
    capability = 10 * attribute(device, cudaDevAttrComputeCapabilityMajor) +
                 attribute(device, cudaDevAttrComputeCapabilityMinor);
  }
  return capability;
}

void* allocate(std::size_t bytes, Device device) {
  use_device(device);
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky: the caller reports it, later calls must not
    return nullptr;
  }
  cuda_check(error, "cudaMalloc");
  return data;
}

void release(void* data, std::size_t, Device) noexcept { cudaFree(data); }

void copy_bytes(void* to, Device, const void* from, Device, std::size_t bytes, Stream stream) {
  cuda_check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, native(stream)),
             "cudaMemcpyAsync");
}

void fill_bytes(void* to, int value, std::size_t bytes, Stream stream) {
  cuda_check(cudaMemsetAsync(to, value, bytes, native(stream)), "cudaMemsetAsync");
}

void* create_stream(Device device) {
  use_device(device);
  cudaStream_t stream = nullptr;
  cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
             "cudaStreamCreateWithFlags");
  return stream;
}

void destroy_stream(Stream stream) noexcept {
  cudaStreamDestroy(static_cast<cudaStream_t>(stream.handle));
}

void synchronize(Stream stream) {
  cuda_check(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize");
}

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();  // no driver or no device is an answer here, not a failure
    return 0;
  }
  return count;
}

std::int64_t memory_bytes(Device device) {
  use_device(device);
  std::size_t available = 0;
  std::size_t total = 0;
  cuda_check(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
  return static_cast<std::int64_t>(total);
}

}  // namespace millrace::cuda
