#include "core/job/device_choice.hpp"

#include <exception>
#include <set>
#include <string>

#include "comm/hosts.hpp"
#include "core/cluster/findings.hpp"
#include "kernels/base/error.hpp"

namespace millrace {
namespace {

// Empty as well when the GPU does not answer: whoever uses it will say why, and the others must not
// wait for this rank here.
std::string uuid_of_only_gpu(const GpuView& gpus) {
  try {
    return gpus.count() == 1 ? gpus.facts(Device::cuda(0)).uuid : "";
  } catch (const std::exception&) {
    return "";
  }
}

// Slurm's --gpus-per-task=1 shows each rank one GPU, its own, as number 0. Collective over `node`.
bool each_sees_its_own(const Comm& node, const GpuView& gpus) {
  const std::string mine = uuid_of_only_gpu(gpus);
  std::set<std::string> different;
  for (const Bytes& uuid : node.all_gather_bytes(as_bytes(mine))) {
    if (!uuid.empty()) {
      different.emplace(as_text(uuid));
    }
  }
  return different.size() == static_cast<std::size_t>(node.size());
}

Device checked(Device gpu, const GpuView& gpus) {
  if (gpus.has_code_for(gpu)) return gpu;
  const DeviceFacts facts = gpus.facts(gpu);
  if (facts.compute_capability < least_capability) {
    throw UserError("{} of host {}, a {}, has compute capability {}; {} is the least",
                    to_string(gpu), host_name(), facts.name,
                    capability_text(facts.compute_capability), capability_text(least_capability));
  }
  throw UserError(
      "this build has no code for {} of host {}, a {}: configure with "
      "-DCMAKE_CUDA_ARCHITECTURES={}",
      to_string(gpu), host_name(), facts.name, facts.compute_capability);
}

}  // namespace

Device choose_device(DeviceChoice choice, const Comm& node, const GpuView& gpus) {
  if (choice == DeviceChoice::cpu) {
    return Device::cpu();
  }
  if (!gpus.cuda_is_built()) {
    if (choice == DeviceChoice::cuda) {
      throw UserError("--device: 'cuda' is not in this build (configure with -DMILLRACE_CUDA=ON)");
    }
    return Device::cpu();
  }
  if (each_sees_its_own(node, gpus)) {
    return checked(Device::cuda(0), gpus);
  }
  const int count = gpus.count();
  if (const std::string obstacle = count == 0 ? gpus.obstacle() : ""; !obstacle.empty()) {
    throw UserError("the driver of host {} lets nobody use its GPUs: {}; --device cpu does without",
                    host_name(), obstacle);
  }
  if (count == 0 && choice == DeviceChoice::automatic) {
    return Device::cpu();
  }
  if (count == 0) {
    throw UserError("--device: host {} has no GPU for 'cuda'", host_name());
  }
  if (count < node.size()) {
    throw UserError("host {} has {} CUDA device{} for {} rank{}; start one rank per GPU",
                    host_name(), count, count == 1 ? "" : "s", node.size(),
                    node.size() == 1 ? "" : "s");
  }
  return checked(Device::cuda(node.rank()), gpus);
}

std::string device_remark(DeviceChoice choice, Device device, const GpuView& gpus) {
  if (choice != DeviceChoice::automatic || device.is_cuda() || !gpus.cuda_is_built()) return "";
  return fmt::format("host {} has no GPU, so the job runs on CPUs", host_name());
}

}  // namespace millrace
