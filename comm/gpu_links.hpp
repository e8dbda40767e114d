// How the GPUs of this host are joined, and the driver under them, as NVIDIA's management library
// sees them. The library is opened when asked, so a build without CUDA and a host without a driver
// just learn nothing.
#pragma once

#include <string>

namespace millrace {

// The way between two GPUs of this host in nvidia-smi's words: "NV18" (that many NVLinks), "PIX",
// "PXB", "PHB", "NODE", "SYS" (ever farther over PCIe); empty when it cannot be known. GPUs are
// named by PCI id ("0000:19:00.0").
std::string gpu_link(const std::string& pci_id, const std::string& other_pci_id);

// "580.126.09"; empty when there is no driver.
std::string gpu_driver_version();

}  // namespace millrace
