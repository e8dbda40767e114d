#include "kernels/simd/linear_tiles_body.hpp"
