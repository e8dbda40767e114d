#include "core/weights/read_weight.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/weights/printable.hpp"
#include "kernels/base/error.hpp"
#include "kernels/base/team.hpp"

namespace millrace {
namespace {

std::vector<std::int64_t> stored_shape(const TensorSpec& weight) {
  std::vector<std::int64_t> shape = weight.shape;
  if (weight.fused_rows > 0) shape[0] = weight.fused_rows;
  if (weight.transposed) std::swap(shape[0], shape[1]);
  return shape;
}

template <typename T>
void transpose(const T* from, std::int64_t rows, std::int64_t columns, T* to,
               std::int64_t to_stride) {
  constexpr std::int64_t tile = 32;
#pragma omp parallel for if (worth_a_team(rows / tile, rows * columns))
  for (std::int64_t row = 0; row < rows; row += tile) {
    for (std::int64_t column = 0; column < columns; column += tile) {
      for (std::int64_t r = row; r < std::min(rows, row + tile); ++r) {
        for (std::int64_t c = column; c < std::min(columns, column + tile); ++c) {
          to[c * to_stride + r] = from[r * columns + c];
        }
      }
    }
  }
}

void read_transposed(Checkpoint& checkpoint, const CheckpointTensor& stored, Range rows,
                     Range columns, const TensorView& out) {
  const Tensor there(out.dtype(), Device::cpu(), {columns.count, rows.count});
  checkpoint.read(stored, columns, rows, there);
  if (size_of(out.dtype()) == sizeof(std::uint32_t)) {
    transpose(static_cast<const std::uint32_t*>(there->data()), columns.count, rows.count,
              static_cast<std::uint32_t*>(out.data()), out.stride(0));
  } else {
    transpose(static_cast<const std::uint16_t*>(there->data()), columns.count, rows.count,
              static_cast<std::uint16_t*>(out.data()), out.stride(0));
  }
}

// Rows (0, half, 1, half + 1, ...) of each head become (0, 1, ..., half, half + 1, ...).
void deinterleave(const TensorView& rows, std::int64_t head_dim) {
  const std::size_t row_bytes = static_cast<std::size_t>(rows.size(1)) * size_of(rows.dtype());
  const std::int64_t half = head_dim / 2;
  std::vector<std::byte> head(static_cast<std::size_t>(head_dim) * row_bytes);
  for (std::int64_t first = 0; first < rows.size(0); first += head_dim) {
    for (std::int64_t row = 0; row < head_dim; ++row) {
      const std::int64_t place = row % 2 * half + row / 2;
      std::memcpy(head.data() + static_cast<std::size_t>(place) * row_bytes,
                  rows.slice(0, first + row, 1).data(), row_bytes);
    }
    for (std::int64_t row = 0; row < head_dim; ++row) {
      std::memcpy(rows.slice(0, first + row, 1).data(),
                  head.data() + static_cast<std::size_t>(row) * row_bytes, row_bytes);
    }
  }
}

}  // namespace

const CheckpointTensor& find_weight(const Checkpoint& checkpoint, const TensorSpec& weight,
                                    const std::vector<std::string>& prefixes) {
  for (const std::string& prefix : prefixes) {
    const CheckpointTensor* stored = checkpoint.find(prefix + weight.name);
    if (stored == nullptr) continue;
    const std::vector<std::int64_t> expected = stored_shape(weight);
    if (stored->shape != expected) {
      throw UserError("{}: tensor '{}' has shape [{}], the config asks for [{}]",
                      checkpoint.describe(), printable(stored->name),
                      fmt::join(stored->shape, ", "), fmt::join(expected, ", "));
    }
    if ((stored->type == StorageType::f8_e4m3) != weight.is_stored_as_fp8()) {
      throw UserError("{}: tensor '{}' is stored as {}, the config {} it in fp8",
                      checkpoint.describe(), printable(stored->name), name(stored->type),
                      weight.is_stored_as_fp8() ? "has" : "does not have");
    }
    return *stored;
  }
  throw UserError("{}: tensor '{}' is missing", checkpoint.describe(),
                  prefixes.front() + weight.name);
}

void read_weight(Checkpoint& checkpoint, const CheckpointTensor& stored, const TensorSpec& weight,
                 const TensorSlice& slice, const TensorView& out) {
  const Range rows{weight.row_offset + slice.rows.begin, slice.rows.count};
  if (weight.transposed) {
    read_transposed(checkpoint, stored, rows, slice.columns, out);
  } else {
    checkpoint.read(stored, rows, slice.columns, out);
  }
  if (weight.interleaved_head_dim > 0) deinterleave(out, weight.interleaved_head_dim);
}

void make_weight(const WeightMaker& maker, const CheckpointTensor& stored, const TensorSpec& weight,
                 const TensorSlice& slice, const TensorView& out, Stream stream) {
  const Range rows{weight.row_offset + slice.rows.begin, slice.rows.count};
  maker.make(stored, rows, slice.columns, weight.transposed, out, stream);
}

}  // namespace millrace
