// Which device this rank runs on.
#pragma once

#include <string>

#include "comm/comm.hpp"
#include "core/config/run_config.hpp"
#include "kernels/base/device_facts.hpp"

namespace millrace {

// What this process sees of its host's GPUs. Tests show it others.
class GpuView {
 public:
  virtual ~GpuView() = default;
  virtual bool cuda_is_built() const { return millrace::cuda_is_built(); }
  virtual int count() const { return cuda_device_count(); }
  virtual std::string obstacle() const { return gpu_obstacle(); }
  virtual DeviceFacts facts(Device gpu) const { return device_facts(gpu); }
  virtual bool has_code_for(Device gpu) const { return device_is_supported(gpu); }
};

// `node`: the ranks of this host; rank i takes its i-th GPU, or the only one that it sees where
// each rank sees another (srun --gpus-per-task=1). Throws UserError when CUDA is asked for and this
// binary has no CUDA backend, the host has no GPU, or it has more ranks than GPUs. With `automatic`
// a host of fewer GPUs than ranks is an error too, since half a job on CPUs helps nobody, and so is
// one whose driver lets nobody use its GPUs; a host without GPUs runs on CPUs. A GPU that is too
// old, or that this build has no code for, is refused. Collective over `node`.
Device choose_device(DeviceChoice choice, const Comm& node, const GpuView& gpus = GpuView());

// For the log, where `automatic` came to `device` and somebody may have meant another: a build for
// GPUs that runs on CPUs. Empty elsewhere.
std::string device_remark(DeviceChoice choice, Device device, const GpuView& gpus = GpuView());

}  // namespace millrace
