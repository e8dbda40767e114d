#include <cstring>

#include "kernels/base/team.hpp"
#include "kernels/gather.hpp"

namespace millrace::cpu {

void gather_rows(const TensorView& out, const TensorView& x, const TensorView& rows, Stream) {
  const std::int64_t row_bytes = out.size(1) * static_cast<std::int64_t>(size_of(out.dtype()));
  const std::int64_t out_stride = out.stride(0) * static_cast<std::int64_t>(size_of(out.dtype()));
  const std::int64_t x_stride = x.stride(0) * static_cast<std::int64_t>(size_of(x.dtype()));
  const std::int64_t nanoseconds = rows.size(0) * row_bytes / 16;
#pragma omp parallel for schedule(static) if (worth_a_team(rows.size(0), nanoseconds))
  for (std::int64_t i = 0; i < rows.size(0); ++i) {
    std::memcpy(static_cast<char*>(out.data()) + i * out_stride,
                static_cast<const char*>(x.data()) + rows.as<std::int32_t>()[i] * x_stride,
                static_cast<std::size_t>(row_bytes));
  }
}

void feed_tokens(const TensorView& ids, const TensorView& sampled, const TensorView& sources,
                 Stream) {
  for (std::int64_t t = 0; t < ids.size(0); ++t) {
    const std::int32_t source = sources.as<std::int32_t>()[t];
    if (source >= 0) ids.as<std::int32_t>()[t] = sampled.as<std::int32_t>()[source];
  }
}

void keep_tokens(const TensorView& sampled, const TensorView& tokens, const TensorView& slots,
                 Stream) {
  for (std::int64_t i = 0; i < tokens.size(0); ++i) {
    sampled.as<std::int32_t>()[slots.as<std::int32_t>()[i]] = tokens.as<std::int32_t>()[i];
  }
}

}  // namespace millrace::cpu
