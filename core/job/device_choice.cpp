#include "core/job/device_choice.hpp"

#include <exception>
#include <set>
#include <string>

#include "comm/hosts.hpp"
#include "kernels/base/device_facts.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// Empty as well when the GPU does not answer: whoever uses it will say why, and the others must not
// wait for this rank here.
std::string uuid_of_only_gpu(int gpus) {
  try {
    return gpus == 1 ? device_facts(Device::cuda(0)).uuid : "";
  } catch (const std::exception&) {
    return "";
  }
}

// Slurm's --gpus-per-task=1 shows each rank one GPU, its own, as number 0. Collective over `node`.
bool each_sees_its_own(const Comm& node, int gpus) {
  const std::string mine = uuid_of_only_gpu(gpus);
  std::set<std::string> different;
  for (const Bytes& uuid : node.all_gather_bytes(as_bytes(mine))) {
    if (!uuid.empty()) {
      different.emplace(as_text(uuid));
    }
  }
  return different.size() == static_cast<std::size_t>(node.size());
}

Device checked(Device gpu) {
  if (device_is_supported(gpu)) return gpu;
  const DeviceFacts facts = device_facts(gpu);
  throw UserError(
      "this build has no code for {} of host {}, a {}: configure with "
      "-DCMAKE_CUDA_ARCHITECTURES={}",
      to_string(gpu), host_name(), facts.name, facts.compute_capability);
}

}  // namespace

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
  if (each_sees_its_own(node, gpus)) {
    return checked(Device::cuda(0));
  }
  if (gpus == 0 && choice == DeviceChoice::automatic) {
    return Device::cpu();
  }
  if (gpus < node.size()) {
    throw UserError("host {} has {} CUDA device{} for {} rank{}; start one rank per GPU",
                    host_name(), gpus, gpus == 1 ? "" : "s", node.size(),
                    node.size() == 1 ? "" : "s");
  }
  return checked(Device::cuda(node.rank()));
}

}  // namespace millrace
