#include "kernels/simd/activation_tiles_body.hpp"
