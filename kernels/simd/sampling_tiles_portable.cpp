#include "kernels/simd/sampling_tiles_body.hpp"
