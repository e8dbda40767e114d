// Which device this rank runs on.
#pragma once

#include "comm/comm.hpp"
#include "core/config/run_config.hpp"
#include "kernels/base/device.hpp"

namespace millrace {

// `node`: the ranks of this host; rank i takes its i-th GPU, or the only one that it sees where
// each rank sees another (srun --gpus-per-task=1). Throws UserError when CUDA is asked for and this
// binary has no CUDA backend, the host has no GPU, or it has more ranks than GPUs. With `automatic`
// a host of fewer GPUs than ranks is an error too, since half a job on CPUs helps nobody; a host
// without GPUs runs on CPUs. A GPU that this build has no code for is refused. Collective over
// `node`.
Device choose_device(DeviceChoice choice, const Comm& node);

}  // namespace millrace
