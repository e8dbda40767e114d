// What a device is and what software drives it, for reports and for comparing the hosts of a job.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/base/device.hpp"

namespace millrace {

struct DeviceFacts {
  std::string name;            // "NVIDIA H100 80GB HBM3"; of the CPU "cpu", and nothing more
  std::string uuid;            // "GPU-5a1c...", as nvidia-smi -L prints it
  std::string pci_id;          // "0000:19:00.0"
  int compute_capability = 0;  // 10 * major + minor: 90
  std::int64_t memory_bytes = 0;
  std::int64_t free_bytes = 0;
  std::string runtime_version;  // of the CUDA runtime in this binary: "13.0"
  std::string driver_cuda;      // newest CUDA that the driver runs: "13.0"
};

// Makes the device current on this thread. Throws what the device reports.
DeviceFacts device_facts(Device device);

// Why none of this host's GPUs can be used though it has a driver, as the driver says it: older
// than this build's CUDA, say, or waiting for NVSwitches to be set up. Empty where one can be, and
// where there is no GPU, no driver or no CUDA backend.
std::string gpu_obstacle();

namespace cpu {
decltype(millrace::device_facts) device_facts;
decltype(millrace::gpu_obstacle) gpu_obstacle;
}  // namespace cpu
namespace cuda {
decltype(millrace::device_facts) device_facts;
decltype(millrace::gpu_obstacle) gpu_obstacle;
}  // namespace cuda

}  // namespace millrace
