#include "kernels/linear.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"
#include "kernels/linear_errors.hpp"

namespace millrace {
namespace {

void check_floats(const char* op, const TensorView& w) {
  check(w.rank() == 2 && w.stride(1) == 1, op, "w is " + w.describe() + ", expected rows [n, k]");
  check(w.dtype() == DType::f32 || w.dtype() == DType::bf16 || w.dtype() == DType::f16, op,
        "w is " + w.describe() + ", expected float32, bfloat16 or float16");
}

}  // namespace

void throw_no_fp8(int capability) {
  throw UserError("fp8 weights need a GPU of compute capability 9.0 (Hopper), this one's is {}.{}",
                  capability / 10, capability % 10);
}

void throw_fp8_shape(std::int64_t n, std::int64_t k) {
  throw UserError(
      "an fp8 weight of {} outputs and {} inputs on one GPU: they must be multiples of 8 and 16", n,
      k);
}

LinearWeight pack_linear(const TensorView& w, Device device, Stream stream) {
  check_floats("pack_linear", w);
  return MILLRACE_DISPATCH(device, pack_linear, w, device, stream);
}

LinearWeight pack_linear_fp8(const TensorView& w, const TensorView& scales, float input_scale,
                             Device device, Stream stream) {
  constexpr auto op = "pack_linear_fp8";
  check_tensor(op, "w", w, DType::fp8_e4m3, {-1, -1});
  check_contiguous(op, "w", w);
  if (scales.rank() == 1) {
    check_tensor(op, "scales", scales, DType::f32, {w.size(0)});
  } else {
    check_tensor(op, "scales", scales, DType::f32,
                 {scale_blocks(w.size(0)), scale_blocks(w.size(1))});
  }
  check_contiguous(op, "scales", scales);
  return MILLRACE_DISPATCH(device, pack_linear_fp8, w, scales, input_scale, device, stream);
}

LinearWeight quantize_linear(const TensorView& w, Device device, Stream stream) {
  check_floats("quantize_linear", w);
  return MILLRACE_DISPATCH(device, quantize_linear, w, device, stream);
}

void linear(const TensorView& out, const LinearInput& x, const LinearWeight& w,
            const TensorView& bias, bool accumulate, Stream stream) {
  constexpr auto op = "linear";
  const TensorView& values = x.values;
  check(x.scaling() == w.scaling(), op,
        "x is " + values.describe() + ", not quantized as the weight is, " + w.data->describe());
  if (x.is_quantized()) {
    check_linear_input(op, "x", x, DType::fp8_e4m3, -1, w.k);
    check_activation(op, "out", out, {values.size(0), w.n});
  } else {
    check_activation(op, "x", values, {-1, w.k});
    check_activation(op, "out", out, {values.size(0), w.n});
    check(out.dtype() == values.dtype() || out.dtype() == DType::f32, op,
          "out is " + out.describe() + ", expected x's dtype or float32");
  }
  if (bias.data() != nullptr) {
    check_tensor(op, "bias", bias, x.is_quantized() ? out.dtype() : values.dtype(), {w.n});
  }
  check_device(op, stream,
               {{"x", values}, {"scales", x.scales}, {"out", out}, {"w", w.data}, {"bias", bias}});
  if (stream.device.is_cuda()) check_tensor(op, "w", w.data, values.dtype(), {w.n, w.k});
  if (out.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, linear, out, x, w, bias, accumulate, stream);
}

}  // namespace millrace
