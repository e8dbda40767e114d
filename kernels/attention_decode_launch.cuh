// Launching decode attention: as many blocks as run at once.
#pragma once

#include <algorithm>
#include <map>

#include "kernels/attention_decode_kernel.cuh"
#include "kernels/base/cuda_launch.cuh"
#include "kernels/base/cuda_scratch.hpp"

namespace millrace::cuda::decode {

template <typename Kernel>
int blocks_of_device(Kernel kernel, std::size_t shared_bytes, Device device) {
  thread_local std::map<std::pair<Kernel, int>, int> known;
  int& blocks = known[{kernel, device.index}];
  if (blocks == 0) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)),
               "cudaFuncSetAttribute");
    cuda_check(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared_bytes),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    blocks = std::clamp(blocks, 1, blocks_per_sm) * multiprocessor_count(device);
    blocks = std::min(blocks, prefill_counter / warps);
  }
  return blocks;
}

// maps: what the kernel takes beside.
template <typename Ring, typename Kernel, typename... Maps>
void launch(const char* name, Kernel kernel, const AttentionArgs& args, Stream stream,
            const Maps&... maps) {
  const auto shared_bytes = std::size_t{warps} * Ring::bytes;
  const int blocks = blocks_of_device(kernel, shared_bytes, stream.device);
  const Parts parts{static_cast<float4*>(millrace::cuda::scratch(stream)), zeroed_counters(stream)};
  launch_early(name, kernel, {dim3(static_cast<unsigned>(blocks)), dim3(threads), shared_bytes},
               stream, args, parts, maps...);
}

}  // namespace millrace::cuda::decode
