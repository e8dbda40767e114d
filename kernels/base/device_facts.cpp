#include "kernels/base/device_facts.hpp"

#include "kernels/base/dispatch.hpp"

namespace millrace {

DeviceFacts cpu::device_facts(Device) {
  DeviceFacts facts;
  facts.name = "cpu";
  return facts;
}

DeviceFacts device_facts(Device device) { return MILLRACE_DISPATCH(device, device_facts, device); }

}  // namespace millrace
