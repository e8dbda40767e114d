#include "kernels/quantize.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"

namespace millrace {

void check_linear_input(std::string_view op, std::string_view name, const LinearInput& rows,
                        DType dtype, std::int64_t m, std::int64_t k) {
  const TensorView& values = rows.values;
  if (!rows.is_quantized()) {
    check_tensor(op, name, values, dtype, {m, k});
    check_activation(op, name, values, {m, k});
    return;
  }
  check_tensor(op, name, values, DType::fp8_e4m3, {m, k});
  if (rows.scaling() == Fp8Scaling::rows) {
    check_tensor(op, "scales", rows.scales, DType::f32, {values.size(0)});
  } else {
    check_tensor(op, "scales", rows.scales, DType::f32,
                 {scale_blocks(values.size(1)), whole_groups(values.size(0))});
    check_contiguous(op, "scales", rows.scales);
  }
}

void quantize(const LinearInput& out, const TensorView& x, Stream stream) {
  constexpr auto op = "quantize";
  check(x.rank() == 2 && x.stride(1) == 1, op, "x is " + x.describe() + ", expected rows [m, k]");
  check(x.dtype() == DType::f32 || x.dtype() == DType::bf16 || x.dtype() == DType::f16, op,
        "x is " + x.describe() + ", expected float32, bfloat16 or float16");
  check(out.is_quantized(), op, "out has no scales");
  check_linear_input(op, "out", out, DType::fp8_e4m3, x.size(0), x.size(1));
  check_device(op, stream, {{"x", x}, {"out", out.values}, {"scales", out.scales}});
  if (x.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, quantize, out, x, stream);
}

}  // namespace millrace
