#include "kernels/base/device_facts.hpp"

#include "kernels/base/dispatch.hpp"

namespace millrace {

DeviceFacts cpu::device_facts(Device) {
  DeviceFacts facts;
  facts.name = "cpu";
  return facts;
}

std::string cpu::gpu_obstacle() { return {}; }

DeviceFacts device_facts(Device device) { return MILLRACE_DISPATCH(device, device_facts, device); }

std::string gpu_obstacle() {
  return MILLRACE_DISPATCH(cuda_is_built() ? Device::cuda(0) : Device::cpu(), gpu_obstacle);
}

}  // namespace millrace
