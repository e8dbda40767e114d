#include "kernels/simd/attention_tiles_body.hpp"
