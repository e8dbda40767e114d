#include "kernels/copy_rows.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"

namespace millrace {

void copy_rows(const TensorView& out, const TensorView& x, Stream stream) {
  constexpr auto op = "copy_rows";
  check_tensor(op, "x", x, x.dtype(), {-1, -1});
  check_tensor(op, "out", out, x.dtype(), {x.size(0), x.size(1)});
  check(x.size(1) <= 1 || (x.stride(1) == 1 && out.stride(1) == 1), op, "columns are strided");
  for (const TensorView& view : {out, x}) {
    check(view.device().is_cpu() || view.device() == stream.device, op,
          "a tensor lies on another device than the stream");
  }
  if (x.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, copy_rows, out, x, stream);
}

}  // namespace millrace
