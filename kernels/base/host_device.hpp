// Marks small inline functions that both the host and CUDA kernels call, so that one definition
// serves the CPU backend, the CUDA backend and the tests.
#pragma once

#ifdef __CUDACC__
#define MILLRACE_HOST_DEVICE __host__ __device__
#else
#define MILLRACE_HOST_DEVICE
#endif
