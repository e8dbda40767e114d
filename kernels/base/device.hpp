// Where memory lives and work runs: the host's CPU or one CUDA GPU.
#pragma once

#include <cstdint>
#include <string>

namespace millrace {

enum class DeviceKind : std::uint8_t { cpu, cuda };

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;  // CUDA ordinal; 0 on the CPU

  static Device cpu() { return {}; }
  static Device cuda(int ordinal) { return {DeviceKind::cuda, ordinal}; }
  bool is_cpu() const { return kind == DeviceKind::cpu; }
  bool is_cuda() const { return kind == DeviceKind::cuda; }
  friend bool operator==(const Device&, const Device&) = default;
};

// "cpu" or "cuda:0".
std::string to_string(Device device);

// True when this binary was built with the CUDA backend.
bool cuda_is_built();

// CUDA devices that this process can see; 0 when there are none, no driver, or no CUDA backend.
int cuda_device_count();

// True when this build has code for the GPU.
bool device_is_supported(Device gpu);

// All memory of a device, used or not; of the CPU, the host's physical memory.
std::int64_t device_memory_bytes(Device device);

// What nobody, in this process or another, has taken of it.
std::int64_t free_device_memory_bytes(Device device);

}  // namespace millrace
