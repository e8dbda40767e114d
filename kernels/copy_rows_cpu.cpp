#include <cstddef>
#include <cstring>

#include "kernels/base/team.hpp"
#include "kernels/copy_rows.hpp"

namespace millrace::cpu {

void copy_rows(const TensorView& out, const TensorView& x, Stream) {
  const auto element = static_cast<std::int64_t>(size_of(x.dtype()));
  const auto row_bytes = static_cast<std::size_t>(x.size(1) * element);
#pragma omp parallel for schedule(static) if (worth_a_team(x.size(0), x.numel() * element / 16))
  for (std::int64_t row = 0; row < x.size(0); ++row) {
    std::memcpy(static_cast<std::byte*>(out.data()) + row * out.stride(0) * element,
                static_cast<const std::byte*>(x.data()) + row * x.stride(0) * element, row_bytes);
  }
}

}  // namespace millrace::cpu
