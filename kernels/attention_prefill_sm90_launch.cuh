// The kernel of prefill attention on Hopper and its launch, for the files that compile it for a
// cache of 16-bit numbers and for one of fp8.
#pragma once

#include <algorithm>

#include "kernels/attention_prefill_sm90_feed_fp8.cuh"
#include "kernels/attention_prefill_sm90_multiply.cuh"
#include "kernels/base/cuda_launch.cuh"
#include "kernels/base/cuda_scratch.hpp"

namespace millrace::cuda::prefill {

// Registers of a thread that feeds and of one that multiplies: 64 Ki in all.
template <typename Kv>
struct RegisterShare {
  static constexpr int feeding = std::is_same_v<Kv, Fp8> ? 72 : 56;
  static constexpr int multiplying = std::is_same_v<Kv, Fp8> ? 216 : 224;
};

template <typename T, typename Kv, int head_dim>
__global__ void __launch_bounds__(threads, 1)
    prefill_sm90_kernel(const __grid_constant__ AttentionArgs args,
                        const __grid_constant__ Plan plan, const __grid_constant__ Maps maps,
                        unsigned* counter) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char shared[];
  const Layout<Kv, head_dim> layout(shared);
  if (threadIdx.x == 0) layout.init_barriers();
  __syncthreads();
  allow_next();
  // Decode in front lets this kernel start when keys and queries are there.
  if (!args.prefill_beside) wait_for_previous();

  const int group = static_cast<int>(threadIdx.x) / warpgroup_size;
  if (group == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(RegisterShare<Kv>::feeding));
    if constexpr (Layout<Kv, head_dim>::is_fp8) {
      feed_fp8<T, head_dim>(args, plan, layout, maps, counter);
    } else {
      if (threadIdx.x < warp_size) feed<T, head_dim>(args, plan, layout, maps, counter);
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(RegisterShare<Kv>::multiplying));
    multiply<T, Kv, head_dim>(args, layout, group - 1);
  }
  if (args.prefill_beside) wait_for_previous();
#endif
}

template <typename T, typename Kv, int head_dim>
void launch(const AttentionArgs& args, const Plan& plan, const Maps& maps, Stream stream) {
  const auto kernel = prefill_sm90_kernel<T, Kv, head_dim>;
  constexpr int bytes = Layout<Kv, head_dim>::bytes;
  static thread_local bool prepared = false;
  if (!prepared) {
    cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
               "cudaFuncSetAttribute");
    prepared = true;
  }
  const std::int64_t pieces =
      query_tile_bound(args, plan.tile_queries * args.group) * args.kv_heads;
  const auto grid =
      static_cast<unsigned>(std::min<std::int64_t>(pieces, multiprocessor_count(stream.device)));
  launch_early("prefill_sm90_kernel", kernel, {grid, threads, bytes}, stream, args, plan, maps,
               reinterpret_cast<unsigned*>(zeroed_counters(stream) + prefill_counter));
}

// For an fp8 cache, compiled in its own file.
void launch_fp8(const AttentionArgs& args, DType dtype, const Plan& plan, const Maps& maps,
                Stream stream);

}  // namespace millrace::cuda::prefill
