#include "comm/gpu_links.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <map>

namespace millrace {
namespace {

// The few functions and numbers of NVML's stable interface that are needed here; every function
// answers 0 for success.
using NvmlDevice = void*;
constexpr int p2p_by_nvlink = 2;           // nvmlGpuP2PCapsIndex_t
constexpr unsigned most_nvlinks = 18;      // of one GPU
constexpr std::size_t version_bytes = 80;  // NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE

class Nvml {
 public:
  Nvml() : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    if (library_ == nullptr) return;
    int (*init)() = nullptr;
    find(init, "nvmlInit_v2");
    find(driver_version, "nvmlSystemGetDriverVersion");
    find(device_by_pci, "nvmlDeviceGetHandleByPciBusId_v2");
    find(p2p_status, "nvmlDeviceGetP2PStatus");
    find(nvlink_state, "nvmlDeviceGetNvLinkState");
    find(common_ancestor, "nvmlDeviceGetTopologyCommonAncestor");
    works_ = init != nullptr && init() == 0;
  }

  bool works() const { return works_; }

  int (*driver_version)(char*, unsigned) = nullptr;
  int (*device_by_pci)(const char*, NvmlDevice*) = nullptr;
  int (*p2p_status)(NvmlDevice, NvmlDevice, int, int*) = nullptr;
  int (*nvlink_state)(NvmlDevice, unsigned, int*) = nullptr;
  int (*common_ancestor)(NvmlDevice, NvmlDevice, int*) = nullptr;

 private:
  template <typename Function>
  void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
  }

  void* library_;  // stays open, as the driver's own threads may
  bool works_ = false;
};

const Nvml& nvml() {
  static const Nvml library;
  return library;
}

int active_nvlinks(NvmlDevice device) {
  int count = 0;
  for (unsigned link = 0; link < most_nvlinks; ++link) {
    int active = 0;
    if (nvml().nvlink_state(device, link, &active) == 0 && active == 1) ++count;
  }
  return count;
}

// nvmlGpuTopologyLevel_t
std::string pcie_distance(int level) {
  static const std::map<int, std::string> names = {{0, "PIX"},  {10, "PIX"},  {20, "PXB"},
                                                   {30, "PHB"}, {40, "NODE"}, {50, "SYS"}};
  const auto found = names.find(level);
  return found == names.end() ? "" : found->second;
}

}  // namespace

std::string gpu_link(const std::string& pci_id, const std::string& other_pci_id) {
  NvmlDevice from = nullptr;
  NvmlDevice to = nullptr;
  if (!nvml().works() || nvml().device_by_pci == nullptr ||
      nvml().device_by_pci(pci_id.c_str(), &from) != 0 ||
      nvml().device_by_pci(other_pci_id.c_str(), &to) != 0) {
    return "";
  }
  int status = -1;
  if (nvml().p2p_status != nullptr && nvml().nvlink_state != nullptr &&
      nvml().p2p_status(from, to, p2p_by_nvlink, &status) == 0 && status == 0) {
    if (const int count = active_nvlinks(from); count > 0) return fmt::format("NV{}", count);
  }
  int level = -1;
  if (nvml().common_ancestor == nullptr || nvml().common_ancestor(from, to, &level) != 0) return "";
  return pcie_distance(level);
}

std::string gpu_driver_version() {
  std::array<char, version_bytes> text{};
  if (!nvml().works() || nvml().driver_version == nullptr ||
      nvml().driver_version(text.data(), text.size()) != 0) {
    return "";
  }
  return text.data();
}

}  // namespace millrace
