// Marks small functions that both the host and CUDA kernels call, so that one definition serves the
// CPU backend, the CUDA backend and the tests. They are always inlined: files of different
// instruction sets include them (kernels/simd), and no copy with the wider instructions may reach
// the rest of the program.
#pragma once

#ifdef __CUDACC__
#define MILLRACE_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define MILLRACE_HOST_DEVICE inline __attribute__((always_inline))
#endif
