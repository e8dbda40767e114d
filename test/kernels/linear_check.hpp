// The fast CPU product against the plain one.
#pragma once

#include "kernels/linear.hpp"
#include "test/kernels/random_tensor.hpp"

namespace millrace {

// Into outputs of their own, and on top of what is in them.
inline void expect_fast_as_plain(const LinearInput& x, const LinearWeight& w,
                                 const TensorView& bias) {
  const std::int64_t m = x.size(0), n = w.n, k = w.k;
  for (const bool accumulate : {false, true}) {
    const auto output = [&] {
      return accumulate ? random_tensor(DType::f32, {m, n}, 4) : poisoned(DType::f32, {m, n});
    };
    const Tensor fast = output();
    const Tensor plain = output();
    cpu::linear(fast, x, w, bias, accumulate, cpu_stream);
    cpu::linear_plain(plain, x, w, bias, accumulate, cpu_stream);
    const float bound = 4e-6F * std::sqrt(static_cast<float>(k)) * 4;
    EXPECT_LE(largest_difference(fast, plain), bound) << m << " x " << n << " x " << k;
  }
}

}  // namespace millrace
