#include "kernels/norm.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"

namespace millrace {
namespace {

void check_norm(const char* op, const LinearInput& out, const TensorView& x,
                const NormWeights& weights, Stream stream) {
  check_activation(op, "x", x, {-1, -1});
  check_linear_input(op, "out", out, x.dtype(), x.size(0), x.size(1));
  check_tensor(op, "weight", weights.weight, x.dtype(), {x.size(1)});
  if (weights.bias.data() != nullptr) {
    check(weights.kind == NormKind::layer, op, "bias given to an RMS norm, which has none");
    check_tensor(op, "bias", weights.bias, x.dtype(), {x.size(1)});
  }
  check_device(op, stream,
               {{"x", x},
                {"out", out.values},
                {"scales", out.scales},
                {"weight", weights.weight},
                {"bias", weights.bias}});
}

}  // namespace

void norm(const LinearInput& out, const TensorView& x, const NormWeights& weights, Stream stream) {
  check_norm("norm", out, x, weights, stream);
  if (x.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, norm, out, x, weights, stream);
}

void check_add_norm(const char* op, const LinearInput& out, const TensorView& residual,
                    const TensorView& x, const NormWeights& weights, Stream stream) {
  check_norm(op, out, x, weights, stream);
  check_tensor(op, "residual", residual, x.dtype(), {x.size(0), x.size(1)});
  check_activation(op, "residual", residual, {-1, -1});
  check_device(op, stream, {{"residual", residual}});
}

void add_norm(const LinearInput& out, const TensorView& residual, const TensorView& x,
              const NormWeights& weights, Stream stream) {
  check_add_norm("add_norm", out, residual, x, weights, stream);
  if (x.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, add_norm, out, residual, x, weights, stream);
}

void add(const TensorView& residual, const TensorView& x, Stream stream) {
  constexpr auto op = "add";
  check_activation(op, "x", x, {-1, -1});
  check_tensor(op, "residual", residual, x.dtype(), {x.size(0), x.size(1)});
  check_activation(op, "residual", residual, {-1, -1});
  check_device(op, stream, {{"x", x}, {"residual", residual}});
  if (x.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, add, residual, x, stream);
}

}  // namespace millrace
