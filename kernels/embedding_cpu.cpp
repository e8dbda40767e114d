#include <algorithm>

#include "kernels/base/team.hpp"
#include "kernels/embedding.hpp"

namespace millrace::cpu {
namespace {

float widen(float value) { return value; }
float widen(Half value) { return to_float(value); }
float widen(Bfloat16 value) { return to_float(value); }

// Row `index` of the packed table is one column of a panel.
template <typename T>
void read_row(float* out, const LinearWeight& table, std::int64_t index, float scale) {
  constexpr std::int64_t width = LinearWeight::panel_width;
  const T* column = table.data->as<T>() + index / width * table.k * width + index % width;
  for (std::int64_t c = 0; c < table.k; ++c) out[c] = scale * widen(column[c * width]);
}

}  // namespace

void embedding(const TensorView& out, const TensorView& ids, const LinearWeight& table,
               std::int64_t vocab_begin, float scale, Stream) {
#pragma omp parallel for schedule(static) if (worth_a_team(ids.size(0), 2 * out.numel()))
  for (std::int64_t t = 0; t < ids.size(0); ++t) {
    float* row = out.as<float>() + t * out.stride(0);
    const std::int64_t index = ids.as<std::int32_t>()[t] - vocab_begin;
    if (index < 0 || index >= table.n) {
      std::fill_n(row, table.k, 0.0F);
    } else if (table.dtype() == DType::f32) {
      read_row<float>(row, table, index, scale);
    } else if (table.dtype() == DType::bf16) {
      read_row<Bfloat16>(row, table, index, scale);
    } else {
      read_row<Half>(row, table, index, scale);
    }
  }
}

void add_position_embedding(const TensorView& out, const TensorView& positions,
                            const TensorView& table, std::int64_t offset, Stream) {
#pragma omp parallel for schedule(static) if (worth_a_team(positions.size(0), out.numel() / 4))
  for (std::int64_t t = 0; t < positions.size(0); ++t) {
    float* row = out.as<float>() + t * out.stride(0);
    const float* position =
        table.as<float>() + (positions.as<std::int32_t>()[t] + offset) * table.stride(0);
    for (std::int64_t i = 0; i < out.size(1); ++i) row[i] += position[i];
  }
}

}  // namespace millrace::cpu
