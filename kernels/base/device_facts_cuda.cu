// A GPU by the CUDA runtime.
#include <array>
#include <cstdio>

#include "kernels/base/cuda_check.hpp"
#include "kernels/base/device_facts.hpp"

namespace millrace::cuda {
namespace {

// 13000 -> "13.0"
std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string uuid_text(const cudaUUID_t& uuid) {
  std::string text = "GPU";
  for (std::size_t i = 0; i < sizeof(uuid.bytes); ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    std::array<char, 3> digits{};
    std::snprintf(digits.data(), digits.size(), "%02x",
                  static_cast<unsigned>(static_cast<unsigned char>(uuid.bytes[i])));
    text += digits.data();
  }
  return text;
}

}  // namespace

DeviceFacts device_facts(Device device) {
  use_device(device);
  cudaDeviceProp properties{};
  cuda_check(cudaGetDeviceProperties(&properties, device.index), "cudaGetDeviceProperties");
  std::array<char, 32> pci_id{};
  cuda_check(cudaDeviceGetPCIBusId(pci_id.data(), pci_id.size(), device.index),
             "cudaDeviceGetPCIBusId");
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  cuda_check(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  int runtime = 0;
  cuda_check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  int driver = 0;
  cuda_check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  DeviceFacts facts;
  facts.name = properties.name;
  facts.uuid = uuid_text(properties.uuid);
  facts.pci_id = pci_id.data();
  facts.compute_capability = 10 * properties.major + properties.minor;
  facts.memory_bytes = static_cast<std::int64_t>(total_bytes);
  facts.free_bytes = static_cast<std::int64_t>(free_bytes);
  facts.runtime_version = version_text(runtime);
  facts.driver_cuda = version_text(driver);
  return facts;
}

std::string gpu_obstacle() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess || error == cudaErrorNoDevice) return "";
  cudaGetLastError();  // an answer, not a failure
  int driver = 0;      // stays 0 where none is installed
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return "";
  return std::string(cudaGetErrorString(error)) + " (CUDA " + version_text(driver) + ")";
}

}  // namespace millrace::cuda
