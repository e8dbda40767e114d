// The CPU matrix product: the loops around the register tiles of kernels/simd/linear_tiles.hpp.
//
// x is packed so that a tile reads it in order; weights are packed already (pack_linear). Work is
// cut into k blocks (a panel's block and a tile of x stay in the first-level cache), row blocks
// (their packed x stays in the second), and items of one panel times some row tiles, which threads
// share. Between k blocks the sums rest in `out` as f32, which changes no bit: an element is one
// chain over k whatever the cut. Few rows (decode) stream each panel once, all its k blocks in
// turn; many rows (prefill) take one k block of every panel at a time.
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/linear.hpp"
#include "kernels/simd/isa.hpp"
#include "kernels/simd/linear_tiles.hpp"

namespace millrace::cpu {
namespace {

constexpr std::int64_t width = LinearWeight::panel_width;
constexpr std::int64_t k_block = 256;
constexpr std::int64_t row_block =
    240;  // rows of x whose packed k block stays in the second-level cache
constexpr std::int64_t streamed_rows = 48;  // up to here a panel's k blocks follow each other
constexpr std::int64_t widened_tiles =
    3;  // from here on 16-bit panels are widened once, not per tile

const LinearTiles& active_tiles() {
#ifdef __x86_64__
  if (active_isa() == Isa::avx512) return avx512::linear_tiles;
  if (active_isa() == Isa::avx2) return avx2::linear_tiles;
#endif
  return portable::linear_tiles;
}

// How `rows` rows are cut into tiles of nearly equal height.
struct Tiling {
  std::int64_t count;
  std::int64_t rows;

  Tiling(std::int64_t rows_, std::int64_t max_rows)
      : count((rows_ + max_rows - 1) / max_rows), rows(rows_) {}
  std::int64_t begin(std::int64_t tile) const { return tile * rows / count; }
  std::int64_t height(std::int64_t tile) const { return begin(tile + 1) - begin(tile); }
};

// to[p * rows + i] = x[i * stride + p]: four by four, then what is left.
void pack_rows(float* to, const float* x, std::int64_t stride, std::int64_t rows, std::int64_t k) {
  using Float4 = float __attribute__((vector_size(16)));
  std::int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    std::int64_t p = 0;
    for (; p + 4 <= k; p += 4) {
      Float4 r[4];
      for (int q = 0; q < 4; ++q) std::memcpy(&r[q], x + (i + q) * stride + p, sizeof(Float4));
      const Float4 low01 = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
      const Float4 low23 = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
      const Float4 high01 = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
      const Float4 high23 = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
      const Float4 c[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                           __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                           __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                           __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
      for (int q = 0; q < 4; ++q) std::memcpy(to + (p + q) * rows + i, &c[q], sizeof(Float4));
    }
    for (; p < k; ++p) {
      for (int q = 0; q < 4; ++q) to[p * rows + i + q] = x[(i + q) * stride + p];
    }
  }
  for (; i < rows; ++i) {
    for (std::int64_t p = 0; p < k; ++p) to[p * rows + i] = x[i * stride + p];
  }
}

struct Product {
  const TensorView& out;
  const TensorView& x;
  const LinearWeight& w;
  const float* bias;
  bool accumulate;
  const LinearTiles& tiles;

  float* out_at(std::int64_t row, std::int64_t column) const {
    return out.as<float>() + row * out.stride(0) + column;
  }
};

// What the sums of a tile start from.
void start_sums(const Product& product, float* c, std::int64_t c_stride, std::int64_t rows,
                std::int64_t column, std::int64_t columns) {
  for (std::int64_t i = 0; i < rows; ++i) {
    float* row = c + i * c_stride;
    for (std::int64_t j = 0; j < columns; ++j) {
      const float bias = product.bias != nullptr ? product.bias[column + j] : 0.0F;
      row[j] = (product.accumulate ? row[j] : 0.0F) + bias;
    }
  }
}

template <typename Raw>
LinearTile<Raw> pick(const LinearTiles& tiles, DType dtype, std::int64_t rows) {
  if constexpr (std::is_same_v<Raw, float>) {
    return tiles.f32[rows - 1];
  } else {
    return dtype == DType::bf16 ? tiles.bf16[rows - 1] : tiles.f16[rows - 1];
  }
}

// One k block [begin, begin + k) of one panel, for row tiles [first, last) of the block that starts
// at row `top`. `packed` holds the x of that k block.
template <typename Raw>
void run_item(const Product& product, const Tiling& tiling, std::int64_t top, std::int64_t panel,
              std::int64_t first, std::int64_t last, std::int64_t begin, std::int64_t k,
              const float* packed) {
  const LinearWeight& w = product.w;
  const Raw* b = static_cast<const Raw*>(w.data->data()) + (panel * w.k + begin) * width;
  const std::int64_t columns = std::min(width, w.n - panel * width);
  alignas(64) float widened[k_block * width];
  alignas(64) float edge[LinearTiles::limit * width];
  const bool widen = !std::is_same_v<Raw, float> && last - first >= widened_tiles;
  if constexpr (!std::is_same_v<Raw, float>) {
    const auto convert =
        w.dtype() == DType::bf16 ? product.tiles.widen_bf16 : product.tiles.widen_f16;
    if (widen) convert(widened, b, k * width);
  }
  for (std::int64_t t = first; t < last; ++t) {
    const std::int64_t rows = tiling.height(t);
    float* out = product.out_at(top + tiling.begin(t), panel * width);
    float* c = columns == width ? out : edge;
    const std::int64_t c_stride = columns == width ? product.out.stride(0) : width;
    if (begin == 0) start_sums(product, out, product.out.stride(0), rows, panel * width, columns);
    if (columns < width) {
      for (std::int64_t i = 0; i < rows; ++i) {
        std::copy_n(out + i * product.out.stride(0), columns, edge + i * width);
        std::fill(edge + i * width + columns, edge + (i + 1) * width, 0.0F);
      }
    }
    const float* a = packed + tiling.begin(t) * k;
    if (widen) {
      product.tiles.f32[rows - 1](a, widened, k, c, c_stride);
    } else {
      pick<Raw>(product.tiles, w.dtype(), rows)(a, b, k, c, c_stride);
    }
    if (columns < width) {
      for (std::int64_t i = 0; i < rows; ++i) {
        std::copy_n(edge + i * width, columns, out + i * product.out.stride(0));
      }
    }
  }
}

// Rows [top, top + rows) times k range [begin, end) of every panel. Called by all threads of a
// team; `packed` is shared, one k block after the other, each [tile][k][tile rows].
template <typename Raw>
void run_block(const Product& product, std::int64_t top, std::int64_t rows, std::int64_t begin,
               std::int64_t end, float* packed) {
  const Tiling tiling(rows, product.tiles.max_rows);
  const std::int64_t blocks = (end - begin + k_block - 1) / k_block;
  const std::int64_t panels = product.w.data->size(0);
  const std::int64_t groups =
      std::clamp<std::int64_t>(4 * omp_get_num_threads() / panels, 1, tiling.count);
  const auto block_size = [&](std::int64_t block) {
    return std::min(k_block, end - begin - block * k_block);
  };
  if (rows > 1) {
#pragma omp for schedule(static)
    for (std::int64_t i = 0; i < blocks * tiling.count; ++i) {
      const std::int64_t block = i / tiling.count;
      const std::int64_t first = tiling.begin(i % tiling.count);
      pack_rows(
          packed + block * k_block * rows + first * block_size(block),
          product.x.as<float>() + (top + first) * product.x.stride(0) + begin + block * k_block,
          product.x.stride(0), tiling.height(i % tiling.count), block_size(block));
    }
  } else {
    packed = product.x.as<float>() + top * product.x.stride(0) + begin;
  }
#pragma omp for schedule(static)
  for (std::int64_t item = 0; item < panels * groups; ++item) {
    const std::int64_t group = item % groups;
    for (std::int64_t block = 0; block < blocks; ++block) {
      run_item<Raw>(product, tiling, top, item / groups, group * tiling.count / groups,
                    (group + 1) * tiling.count / groups, begin + block * k_block, block_size(block),
                    packed + block * k_block * rows);
    }
  }
}

template <typename Raw>
void run(const Product& product) {
  const std::int64_t m = product.x.size(0);
  const std::int64_t k = product.w.k;
  const std::int64_t k_step = m <= streamed_rows ? k : k_block;
  thread_local std::vector<float> packed;
  packed.resize(static_cast<std::size_t>(std::min(m, row_block) * std::min(k, k_step)));
  float* shared = packed.data();
#pragma omp parallel
  for (std::int64_t top = 0; top < m; top += row_block) {
    for (std::int64_t begin = 0; begin < k; begin += k_step) {
      run_block<Raw>(product, top, std::min(row_block, m - top), begin, std::min(k, begin + k_step),
                     shared);
    }
  }
}

}  // namespace

void linear(const TensorView& out, const TensorView& x, const LinearWeight& w,
            const TensorView& bias, bool accumulate, Stream) {
  const Product product{
      out, x, w, bias.data() != nullptr ? bias.as<float>() : nullptr, accumulate, active_tiles()};
  if (w.dtype() == DType::f32) {
    run<float>(product);
  } else {
    run<std::uint16_t>(product);
  }
}

}  // namespace millrace::cpu
