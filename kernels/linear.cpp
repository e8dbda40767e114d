#include "kernels/linear.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"

namespace millrace {

LinearWeight pack_linear(const TensorView& w, Device device, Stream stream) {
  constexpr auto op = "pack_linear";
  check(w.rank() == 2 && w.stride(1) == 1, op, "w is " + w.describe() + ", expected rows [n, k]");
  check(w.dtype() == DType::f32 || w.dtype() == DType::bf16 || w.dtype() == DType::f16, op,
        "w is " + w.describe() + ", expected float32, bfloat16 or float16");
  return MILLRACE_DISPATCH(device, pack_linear, w, device, stream);
}

void linear(const TensorView& out, const TensorView& x, const LinearWeight& w,
            const TensorView& bias, bool accumulate, Stream stream) {
  constexpr auto op = "linear";
  check_activation(op, "x", x, {-1, w.k});
  check_activation(op, "out", out, {x.size(0), w.n});
  check(out.dtype() == x.dtype() || out.dtype() == DType::f32, op,
        "out is " + out.describe() + ", expected x's dtype or float32");
  if (bias.data() != nullptr) check_tensor(op, "bias", bias, x.dtype(), {w.n});
  check_device(op, stream, {{"x", x}, {"out", out}, {"w", w.data}, {"bias", bias}});
  if (stream.device.is_cuda()) check_tensor(op, "w", w.data, x.dtype(), {w.n, w.k});
  if (out.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, linear, out, x, w, bias, accumulate, stream);
}

}  // namespace millrace
