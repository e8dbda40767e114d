// What every .cu file needs of the CUDA runtime: failures as exceptions that carry the call's name,
// and the device that belongs to a stream made current.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "kernels/base/stream.hpp"

namespace millrace::cuda {

// A CUDA call failed: a bug here or a broken machine, never the user's mistake.
class CudaError : public std::runtime_error {
 public:
  CudaError(const char* call, cudaError_t error)
      : std::runtime_error(std::string(call) + ": " + cudaGetErrorName(error) + " (" +
                           cudaGetErrorString(error) + ")"),
        code(error) {}

  cudaError_t code;
};

// Throws UserError where the device has no memory left, else CudaError.
[[noreturn]] void throw_cuda_error(const char* call, cudaError_t error);

inline void cuda_check(cudaError_t error, const char* call) {
  if (error != cudaSuccess) throw_cuda_error(call, error);
}

// After a kernel launch: throws when the launch itself was refused. Faults inside the kernel
// surface at the next synchronization.
inline void check_launch(const char* kernel) { cuda_check(cudaGetLastError(), kernel); }

// Makes the device current for this host thread; free when it is already.
void use_device(Device device);

// The stream's handle, its device made current.
inline cudaStream_t native(Stream stream) {
  use_device(stream.device);
  return static_cast<cudaStream_t>(stream.handle);
}

// Streaming multiprocessors of the device, and its compute capability as 10 * major + minor.
int multiprocessor_count(Device device);
int compute_capability(Device device);

// Whether the kernels of Hopper's own instructions were built (for sm_90a) and run on the device.
bool runs_hopper_kernels(Device device);

}  // namespace millrace::cuda
