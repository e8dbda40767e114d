#ifdef __x86_64__
#define MILLRACE_ISA avx2
#define MILLRACE_ISA_LEVEL 2
#include "kernels/simd/sampling_tiles_body.hpp"
#endif
