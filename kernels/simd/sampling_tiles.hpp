// The parts of sampling that touch every logit of a row, one set per instruction set. All of them
// are compiled from the same scalar arithmetic (kernels/sampling_math.hpp), which rounds each step
// alone, so the sets agree bit for bit.
#pragma once

#include <cstdint>

namespace millrace::cpu {

// What a draw needs of one row; see DrawRows.
struct RowDraw {
  float inverse_temperature;  // 0: greedy
  std::int64_t noise_key;
  std::int32_t position;
  std::int32_t threshold;
};

struct SamplingTiles {
  // The largest of n logits that is not NaN, -infinity for none.
  float (*largest)(const float* x, std::int64_t n);

  // The sum over n logits of mass((x - largest) * scale), -infinity and NaN left out.
  std::int64_t (*total_mass)(const float* x, std::int64_t n, float largest, float scale);

  // bins[256]: adds 1 or mass((x - largest) * scale) of every logit at or above the threshold whose
  // key's bits above `shift` + 8 are those of `prefix`, by the 8 bits of the key above `shift`.
  void (*histogram)(std::int64_t* bins, const float* x, std::int64_t n, bool by_mass, float largest,
                    float scale, std::int32_t threshold, std::uint32_t prefix, int shift);

  // The best candidate of n logits; logit i is token first + i.
  std::int64_t (*draw)(const float* x, std::int64_t n, std::int64_t first, const RowDraw& row);
};

namespace portable {
extern const SamplingTiles sampling_tiles;
}
namespace avx2 {
extern const SamplingTiles sampling_tiles;
}
namespace avx512 {
extern const SamplingTiles sampling_tiles;
}

}  // namespace millrace::cpu
