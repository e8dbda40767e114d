#include "kernels/made_up.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/dispatch.hpp"

namespace millrace {

void make_up(const TensorView& out, const MadeUpNumbers& numbers, const MadeUpPlaces& places,
             Stream stream) {
  constexpr auto op = "make_up";
  check_tensor(op, "out", out, out.dtype(), {-1, -1});
  check(out.dtype() == DType::f32 || out.dtype() == DType::f16 || out.dtype() == DType::bf16 ||
            out.dtype() == DType::fp8_e4m3,
        op, "out is not of a float type");
  check(out.size(1) <= 1 || out.stride(1) == 1, op, "out's columns are strided");
  check_device(op, stream, {{"out", out}});
  if (out.numel() == 0) return;
  MILLRACE_DISPATCH(stream.device, make_up, out, numbers, places, stream);
}

}  // namespace millrace
