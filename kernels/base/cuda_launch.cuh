// Launching a kernel while the one before it on the stream still runs (programmatic dependent
// launch), so that its launch, its set-up and its first loads of constants cost no time of their
// own.
//
// The rule: every thread of a kernel that launch_early() starts calls wait_for_previous(), on every
// path, before it touches anything that an earlier kernel writes or that an earlier kernel may
// still read. Only constants of the step (weights, tables) may be read before. wait_for_previous()
// returns when the kernel before has ended and its writes are visible; that kernel, by the same
// rule, ended after the one before it, so a chain stays ordered as a stream's is. A kernel launched
// in the ordinary way waits for all of that by itself.
//
// allow_next() lets the next kernel start once every block of this one has called it or has ended.
// It says nothing about data. A kernel that never calls it (a library's) holds the next one back
// until it ends.
//
// Two kernels may also run beside each other, where neither touches what the other writes. The
// first calls allow_next_in_turn() instead, so that the second starts when all before the two has
// ended; the second calls wait_for_previous() at its end, so that what comes after it finds both
// ended.
//
// All of it holds in captured graphs, where such a launch becomes a programmatic edge. Devices
// before compute capability 9.0 have none of this: there the launch is an ordinary one and the
// functions are empty.
#pragma once

#include <cuda_runtime.h>

#include "kernels/base/cuda_check.hpp"

namespace millrace::cuda {

__device__ __forceinline__ void allow_next() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Behind wait_for_previous(): allow_next() for a kernel that relies on this one's having waited.
__device__ __forceinline__ void allow_next_in_turn() {
  __threadfence();
  allow_next();
}

// Asks for the line with a constant to be in the second-level cache, which weights that stream
// through have emptied; for use before wait_for_previous().
__device__ __forceinline__ void bring_near(const void* constant) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(constant));
}

struct LaunchShape {
  dim3 grid, block;
  std::size_t shared_bytes = 0;  // dynamic
};

// `name` is what a refused launch is reported by.
template <typename... Parameters, typename... Arguments>
void launch_early(const char* name, void (*kernel)(Parameters...), const LaunchShape& shape,
                  Stream stream, Arguments&&... arguments) {
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = native(stream);
  config.attrs = &early;
  config.numAttrs = compute_capability(stream.device) >= 90 ? 1 : 0;
  cuda_check(cudaLaunchKernelEx(&config, kernel, static_cast<Arguments&&>(arguments)...), name);
}

}  // namespace millrace::cuda
