// Numbers made up from a key and a place, for weights of models that are not at hand. Every device
// makes the same bits, in any order and any part.
#pragma once

#include <cstdint>

#include "kernels/base/stream.hpp"
#include "kernels/base/tensor.hpp"

namespace millrace {

// Number i is center + unit * s, with s the 16-bit integer in place i % 4, the lowest first, of the
// 64-bit word mix(key + i / 4).
struct MadeUpNumbers {
  std::uint64_t key = 0;
  float center = 0;
  float unit = 0;
};

// Which number an element is: first + row * row_step + column * column_step.
struct MadeUpPlaces {
  std::int64_t first = 0;
  std::int64_t row_step = 0;
  std::int64_t column_step = 1;
};

// A finaliser (splitmix64's): every input bit moves every output bit.
#ifdef __CUDACC__
__host__ __device__
#endif
    constexpr std::uint64_t
    mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Fills out [rows, columns] of f32, f16, bf16 or fp8_e4m3 (saturating), rounded to nearest even.
// Rows may be strided.
void make_up(const TensorView& out, const MadeUpNumbers& numbers, const MadeUpPlaces& places,
             Stream stream);

namespace cpu {
decltype(millrace::make_up) make_up;
}
namespace cuda {
decltype(millrace::make_up) make_up;
}

}  // namespace millrace
