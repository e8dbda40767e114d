// Decode attention: chooses the kernel of a batch's types and head size, and launches as many
// blocks as run at once.
#include <algorithm>
#include <map>

#include "kernels/attention_decode_kernel.cuh"
#include "kernels/base/cuda_scratch.hpp"

namespace millrace::cuda {
namespace {

template <typename Kernel>
int blocks_of_device(Kernel kernel, std::size_t shared_bytes, Device device) {
  thread_local std::map<std::pair<Kernel, int>, int> known;
  int& blocks = known[{kernel, device.index}];
  if (blocks == 0) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)),
               "cudaFuncSetAttribute");
    cuda_check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, decode::threads,
                                                             shared_bytes),
               "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    blocks = std::clamp(blocks, 1, decode::blocks_per_sm) * multiprocessor_count(device);
    blocks = std::min(blocks, prefill_counter / decode::warps);
  }
  return blocks;
}

template <typename T, typename Kv, int head_dim>
void launch(const AttentionArgs& args, Stream stream) {
  const auto kernel = decode::decode_kernel<T, Kv, head_dim>;
  const auto shared_bytes = std::size_t{decode::warps} * decode::Ring<T, Kv, head_dim>::bytes;
  const int blocks = blocks_of_device(kernel, shared_bytes, stream.device);
  static_assert(std::size_t{counter_count} * decode::part_bytes<head_dim> <= scratch_bytes);
  const decode::Parts parts{static_cast<float4*>(millrace::cuda::scratch(stream)),
                            zeroed_counters(stream)};
  launch_early("decode_kernel", kernel,
               {dim3(static_cast<unsigned>(blocks)), dim3(decode::threads), shared_bytes}, stream,
               args, parts);
}

}  // namespace

bool decode_attention(const AttentionArgs& args, DType dtype, DType cache, Stream stream) {
  if (args.block_size % decode::tile_keys != 0) return false;
  bool found = false;
  const bool known = with_tensor_core_types(dtype, cache, [&](auto element, auto cache_element) {
    found = with_head_dim(args.head_dim, [&](auto size) {
      AttentionArgs decoded = args;
      decoded.sequences = args.decode_sequences;
      launch<decltype(element), decltype(cache_element), decltype(size)::value>(decoded, stream);
    });
  });
  return known && found;
}

}  // namespace millrace::cuda
