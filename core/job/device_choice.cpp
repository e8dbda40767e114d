#include "core/job/device_choice.hpp"

#include "comm/hosts.hpp"
#include "kernels/base/error.hpp"

namespace millrace {

Device choose_device(DeviceChoice choice, const Comm& node) {
  if (choice == DeviceChoice::cpu) {
    return Device::cpu();
  }
  if (!cuda_is_built()) {
    if (choice == DeviceChoice::cuda) {
      throw UserError("--device: 'cuda' is not in this build (configure with -DMILLRACE_CUDA=ON)");
    }
    return Device::cpu();
  }
  const int gpus = cuda_device_count();
  if (gpus == 0 && choice == DeviceChoice::automatic) {
    return Device::cpu();
  }
  if (gpus < node.size()) {
    throw UserError("host {} has {} CUDA device{} for {} rank{}; start one rank per GPU",
                    host_name(), gpus, gpus == 1 ? "" : "s", node.size(),
                    node.size() == 1 ? "" : "s");
  }
  return Device::cuda(node.rank());
}

}  // namespace millrace
