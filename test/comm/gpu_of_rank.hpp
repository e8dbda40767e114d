// Which GPU a rank of a test takes: rank r the r-th, and where there are fewer GPUs than ranks the
// test says that it skips. With MILLRACE_TEST_RANKS_PER_GPU=2 ranks share GPUs instead, so that the
// code of four ranks runs on two. A GPU lets processes run in turn: what waits for another rank
// takes milliseconds, and times mean nothing.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>

#include "kernels/base/device.hpp"

namespace millrace {

inline int ranks_per_gpu() {
  const char* text = std::getenv("MILLRACE_TEST_RANKS_PER_GPU");
  return text == nullptr ? 1 : std::max(1, std::atoi(text));
}

inline bool have_gpus_for(int ranks) { return cuda_device_count() * ranks_per_gpu() >= ranks; }

// To be called before NCCL is: it refuses two ranks of a host on one GPU, so they say that they are
// on several.
inline Device gpu_of_rank(int rank) {
  const int gpus = std::max(1, cuda_device_count());
  if (rank >= gpus) setenv("NCCL_HOSTID", std::to_string(rank / gpus).c_str(), 1);
  return Device::cuda(rank % gpus);
}

}  // namespace millrace
