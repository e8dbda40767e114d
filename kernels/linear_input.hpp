// What a matrix product reads: rows of activations, as they are or quantized to fp8 (e4m3). The op
// that makes the rows (a norm, an activation, quantize) writes them in either form.
//
// A scale is the number that an fp8 element is multiplied with to give its value back.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/base/tensor.hpp"

namespace millrace {

enum class Fp8Scaling : std::uint8_t {
  none,    // not fp8
  rows,    // one scale for each row of x, and one for each output feature of the weight
  blocks,  // one for each 128 inputs of a row of x, and one for each 128 x 128 of the weight
};

// Sides of a scaled block.
inline constexpr std::int64_t scale_block = 128;

inline std::int64_t scale_blocks(std::int64_t size) {
  return (size + scale_block - 1) / scale_block;
}

// Products of scaled blocks work on whole groups of eight rows: values, scales and the product's
// output have memory for so many, and what lies behind row m is overwritten.
inline std::int64_t whole_groups(std::int64_t m) { return (m + 7) / 8 * 8; }

struct LinearInput {
  TensorView values;  // [m, k]: activations, or fp8_e4m3
  // f32. Empty: not quantized. [m]: rows. [scale_blocks(k), whole_groups(m)], contiguous: blocks.
  TensorView scales;
  // What quantizes a row: 0 is the row's (or block's) own largest magnitude / 448; anything else is
  // the scale of all rows, which a checkpoint states.
  float fixed_scale = 0;

  LinearInput() = default;
  LinearInput(const TensorView& plain) : values(plain) {}     // NOLINT: rows as they are
  LinearInput(const Tensor& plain) : values(plain.view()) {}  // NOLINT
  LinearInput(const TensorView& fp8, const TensorView& row_scales, float fixed = 0)
      : values(fp8), scales(row_scales), fixed_scale(fixed) {}

  Fp8Scaling scaling() const {
    if (scales.data() == nullptr) return Fp8Scaling::none;
    return scales.rank() == 1 ? Fp8Scaling::rows : Fp8Scaling::blocks;
  }
  bool is_quantized() const { return scaling() != Fp8Scaling::none; }
  std::int64_t size(int dimension) const { return values.size(dimension); }
};

// The scale that maps `largest` to fp8's largest number, 448. A row of zeros has a scale too.
#ifdef __CUDACC__
__host__ __device__
#endif
    inline float
    fp8_scale(float largest) {
  constexpr float least = 0x1p-100F;  // its inverse is finite
  const float scale = largest / 448.0F;
  return scale < least ? least : scale;  // NaN and infinity stay
}

// Throws ShapeError naming the tensor when rows [m, k] (-1: any) do not fit: activations of
// `dtype`, or fp8 and scales of a shape that goes with it.
void check_linear_input(std::string_view op, std::string_view name, const LinearInput& rows,
                        DType dtype, std::int64_t m, std::int64_t k);

}  // namespace millrace
