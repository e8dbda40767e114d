// Launching decode attention: as many blocks as run at once.
#pragma once

#include <algorithm>
#include <map>

#include "kernels/attention_decode_kernel.cuh"
#include "kernels/base/cuda_launch.cuh"
#include "kernels/base/cuda_scratch.hpp"

namespace millrace::cuda::decode {

// Whether a block can have so much: 227 KiB on Hopper, 163 on an A100, 99 on most others.
template <typename Kernel>
bool has_shared_memory(Kernel kernel, std::size_t bytes, Device device) {
  int most = 0;
  cuda_check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device.index),
             "cudaDeviceGetAttribute");
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
  return bytes + attributes.sharedSizeBytes <= static_cast<std::size_t>(most);
}

// 0 where a block cannot have the shared memory.
template <typename Kernel>
int blocks_of_device(Kernel kernel, std::size_t shared_bytes, Device device) {
  thread_local std::map<std::pair<Kernel, int>, int> known;
  const auto [found, is_new] = known.try_emplace({kernel, device.index}, 0);
  int& blocks = found->second;
  if (is_new && has_shared_memory(kernel, shared_bytes, device)) {
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

// maps: what the kernel takes beside. False, having done nothing, where a block cannot have the
// shared memory.
template <typename Ring, typename Kernel, typename... Maps>
bool launch(const char* name, Kernel kernel, const AttentionArgs& args, Stream stream,
            const Maps&... maps) {
  const auto shared_bytes = std::size_t{warps} * Ring::bytes;
  const int blocks = blocks_of_device(kernel, shared_bytes, stream.device);
  if (blocks == 0) return false;
  static_assert(std::size_t{counter_count} * Ring::most_part_bytes <= scratch_bytes);
  const Parts parts{static_cast<float4*>(millrace::cuda::scratch(stream)), zeroed_counters(stream)};
  launch_early(name, kernel, {dim3(static_cast<unsigned>(blocks)), dim3(threads), shared_bytes},
               stream, args, parts, maps...);
  return true;
}

// Calls body with the tiles of column_heads that a warp's queries take, as a constant.
template <typename Body>
bool with_columns(int group, Body&& body) {
  return group <= column_heads ? body(std::integral_constant<int, 1>{})
                               : body(std::integral_constant<int, 2>{});
}

}  // namespace millrace::cuda::decode
