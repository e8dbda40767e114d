#ifdef __x86_64__
#define MILLRACE_ISA avx512
#define MILLRACE_ISA_LEVEL 512
#include "kernels/simd/sampling_tiles_body.hpp"
#endif
