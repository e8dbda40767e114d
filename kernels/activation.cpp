#include "kernels/activation.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"

namespace millrace {

void activation(const LinearInput& out, const TensorView& x, Activation kind, Stream stream) {
  constexpr auto op = "activation";
  check_activation(op, "x", x, {-1, -1});
  check_linear_input(op, "out", out, x.dtype(), x.size(0), x.size(1));
  check_device(op, stream, {{"x", x}, {"out", out.values}, {"scales", out.scales}});
  if (x.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, activation, out, x, kind, stream);
}

void gated_activation(const LinearInput& out, const TensorView& gate_up, Activation kind,
                      Stream stream) {
  constexpr auto op = "gated_activation";
  check_linear_input(op, "out", out, gate_up.dtype(), -1, -1);
  check_activation(op, "gate_up", gate_up, {out.size(0), 2 * out.size(1)});
  check_device(op, stream, {{"gate_up", gate_up}, {"out", out.values}, {"scales", out.scales}});
  if (gate_up.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, gated_activation, out, gate_up, kind, stream);
}

void scale_softcap(const TensorView& x, float scale, float softcap, Stream stream) {
  constexpr auto op = "scale_softcap";
  check_tensor(op, "x", x, DType::f32, {-1, -1});
  check_activation(op, "x", x, {-1, -1});
  check_device(op, stream, {{"x", x}});
  if (x.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, scale_softcap, x, scale, softcap, stream);
}

}  // namespace millrace
