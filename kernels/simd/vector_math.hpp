// exp and tanh of whole vectors, within 2 units in the last place of the exact value.
#pragma once

#include "kernels/simd/vector.hpp"

namespace millrace::cpu::MILLRACE_ISA {

// e^x for x <= 88.3; 0 below -86.6. Cody-Waite reduction to |r| <= ln(2) / 2 and the polynomial of
// Cephes' expf. The rounding constant leaves n in the low bits of `shifted`. (max and min give
// their second operand when one is NaN, so a NaN comes through.)
inline Vector exp_bounded(Vector x) {
  const Vector lowest = broadcast(-86.6F);
  const Vector rounder = broadcast(12582912.0F);
  const Vector clamped = max(lowest, x);
  const Vector shifted = fma(clamped, broadcast(1.44269504F), rounder);
  const Vector n = shifted - rounder;
  Vector r = fma(n, broadcast(-0.693359375F), clamped);
  r = fma(n, broadcast(2.12194440e-4F), r);
  Vector p = fma(broadcast(1.9875691500e-4F), r, broadcast(1.3981999507e-3F));
  p = fma(p, r, broadcast(8.3334519073e-3F));
  p = fma(p, r, broadcast(4.1665795894e-2F));
  p = fma(p, r, broadcast(1.6666665459e-1F));
  p = fma(p, r, broadcast(5.0000001201e-1F));
  p = fma(p, r * r, r) + broadcast(1.0F);
  return select_less(x, lowest, broadcast(0.0F), add_exponent(p, shifted));
}

// e^x; infinity above 88.3.
inline Vector exp(Vector x) {
  const Vector highest = broadcast(88.3F);
  return select_less(highest, x, broadcast(__builtin_inff()), exp_bounded(min(highest, x)));
}

// tanh(x): an odd polynomial (Cephes' tanhf) where |x| < 0.625, else 1 - 2 / (e^(2|x|) + 1).
inline Vector tanh(Vector x) {
  const Vector zero = broadcast(0.0F);
  const Vector magnitude = max(x, zero - x);
  const Vector square = x * x;
  Vector p = fma(broadcast(-5.70498872745e-3F), square, broadcast(2.06390887954e-2F));
  p = fma(p, square, broadcast(-5.37397155531e-2F));
  p = fma(p, square, broadcast(1.33314422036e-1F));
  p = fma(p, square, broadcast(-3.33332819422e-1F));
  const Vector small = fma(p * square, x, x);
  const Vector large =
      broadcast(1.0F) - broadcast(2.0F) / (exp(magnitude + magnitude) + broadcast(1.0F));
  return select_less(magnitude, broadcast(0.625F), small,
                     select_less(x, zero, zero - large, large));
}

}  // namespace millrace::cpu::MILLRACE_ISA
