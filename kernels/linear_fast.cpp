// The CPU matrix product: the loops around the register tiles of kernels/simd/linear_tiles.hpp.
//
// x is packed so that a tile reads it in order; weights are packed already (pack_linear). Work is
// cut into row blocks, k steps (a row block's packed x of one k step stays in the caches), and
// items of one panel times some row tiles, which threads share. An item goes through its k step in
// k blocks: a block of the panel stays in the first-level cache while all tiles use it. Sums rest
// as f32 in a buffer between k blocks and in `out` between k steps, which changes no bit: an
// element is one chain over k, whatever the cut.
#include <omp.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels/base/team.hpp"
#include "kernels/linear.hpp"
#include "kernels/quantize.hpp"
#include "kernels/simd/linear_tiles.hpp"

namespace millrace::cpu {
namespace {

constexpr std::int64_t width = LinearWeight::panel_width;
constexpr std::int64_t k_block = 256;
constexpr std::int64_t row_block = 240;
constexpr std::int64_t packed_floats = 240 * 2048;  // of x in one k step
// From this many row tiles on, a 16-bit panel is widened once, not by every tile.
constexpr std::int64_t widened_tiles = 3;

struct Product {
  float* out;
  std::int64_t out_stride;
  const float* x;
  std::int64_t x_stride;
  std::int64_t rows;
  const LinearWeight& w;
  const float* bias;
  bool accumulate;
  const LinearTiles& tiles;

  // How many columns of a panel are features of the weight.
  std::int64_t columns(std::int64_t panel) const { return std::min(width, w.n - panel * width); }
  float* out_at(std::int64_t row, std::int64_t panel) const {
    return out + row * out_stride + panel * width;
  }
  const float* x_at(std::int64_t row, std::int64_t k) const { return x + row * x_stride + k; }
};

// What the sums of rows [top, top + rows) of one panel start from, into c [rows, 32].
void start_sums(const Product& product, float* c, std::int64_t top, std::int64_t rows,
                std::int64_t panel, bool first_step) {
  const std::int64_t columns = product.columns(panel);
  std::fill_n(c, rows * width, 0.0F);
  if (product.accumulate || !first_step) {
    for (std::int64_t i = 0; i < rows; ++i) {
      std::copy_n(product.out_at(top + i, panel), columns, c + i * width);
    }
  }
  if (product.bias != nullptr && first_step) {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j)
        c[i * width + j] += product.bias[panel * width + j];
    }
  }
}

void store_sums(const Product& product, const float* c, std::int64_t top, std::int64_t rows,
                std::int64_t panel) {
  for (std::int64_t i = 0; i < rows; ++i) {
    std::copy_n(c + i * width, product.columns(panel), product.out_at(top + i, panel));
  }
}

// Inputs [begin, begin + count) of a panel of fp8, times their scales.
void widen_fp8(const Product& product, float* to, std::int64_t panel, std::int64_t begin,
               std::int64_t count) {
  const LinearWeight& w = product.w;
  const auto* from =
      static_cast<const std::uint8_t*>(w.data->data()) + (panel * w.k + begin) * width;
  const float* scales = w.scales->as<float>();
  alignas(64) float scale[width] = {};
  if (w.scaling() == Fp8Scaling::rows) {
    std::copy_n(scales + panel * width, product.columns(panel), scale);
    return product.tiles.widen_fp8(to, from, count, scale);
  }
  // k blocks are whole scaled blocks, and panels divide them.
  static_assert(k_block % scale_block == 0 && scale_block % width == 0);
  scales += panel * width / scale_block * w.scales->size(1) + begin / scale_block;
  for (std::int64_t c = 0; c < count; c += scale_block) {
    std::fill_n(scale, width, scales[c / scale_block]);
    product.tiles.widen_fp8(to + c * width, from + c * width, std::min(scale_block, count - c),
                            scale);
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

// The packed x of a row block and a k step: one k block after the other, each [tile][k][tile rows].
struct PackedRows {
  const float* data;
  RowTiling tiling;
  std::int64_t top;
  std::int64_t begin;  // of the k step
  std::int64_t end;

  std::int64_t blocks() const { return (end - begin + k_block - 1) / k_block; }
  std::int64_t block_size(std::int64_t block) const {
    return std::min(k_block, end - begin - block * k_block);
  }
  std::int64_t offset(std::int64_t block, std::int64_t tile) const {
    return block * k_block * tiling.rows + tiling.begin(tile) * block_size(block);
  }
};

// Row tiles [first, last) of one panel.
template <typename Raw>
void run_item(const Product& product, const PackedRows& packed, std::int64_t panel,
              std::int64_t first, std::int64_t last) {
  const LinearWeight& w = product.w;
  const RowTiling& tiling = packed.tiling;
  const std::int64_t top = packed.top + tiling.begin(first);
  const std::int64_t rows = tiling.begin(last) - tiling.begin(first);
  alignas(64) float sums[row_block * width];
  alignas(64) float widened[k_block * width];
  start_sums(product, sums, top, rows, panel, packed.begin == 0);
  for (std::int64_t block = 0; block < packed.blocks(); ++block) {
    const std::int64_t k = packed.block_size(block);
    const Raw* b = static_cast<const Raw*>(w.data->data()) +
                   (panel * w.k + packed.begin + block * k_block) * width;
    const char* ahead = reinterpret_cast<const char*>(b + k * width);
    constexpr std::int64_t step = width * sizeof(Raw);
    constexpr bool is_fp8 = std::is_same_v<Raw, std::uint8_t>;
    const bool widen = is_fp8 || (!std::is_same_v<Raw, float> && last - first >= widened_tiles);
    if constexpr (is_fp8) {
      widen_fp8(product, widened, panel, packed.begin + block * k_block, k);
    } else if constexpr (!std::is_same_v<Raw, float>) {
      const auto convert =
          w.dtype() == DType::bf16 ? product.tiles.widen_bf16 : product.tiles.widen_f16;
      if (widen) convert(widened, b, k * width);
    }
    for (std::int64_t t = first; t < last; ++t) {
      const float* a = packed.data + packed.offset(block, t);
      float* c = sums + (tiling.begin(t) - tiling.begin(first)) * width;
      // The first tiles ask for the next block, each for its part, so that memory works all the
      // while.
      const std::int64_t share = std::min<std::int64_t>(last - first, 4);
      const std::int64_t stride = t - first < share ? step / share : 0;
      const char* part = ahead + (t - first) * k * stride;
      if (widen) {
        product.tiles.f32[tiling.height(t) - 1](a, widened, k, c, width, part, stride);
      } else if constexpr (!is_fp8) {
        pick<Raw>(product.tiles, w.dtype(), tiling.height(t))(a, b, k, c, width, part, stride);
      }
    }
  }
  store_sums(product, sums, top, rows, panel);
}

// Called by all threads of a team; `buffer` is shared.
template <typename Raw>
void run_step(const Product& product, PackedRows packed, float* buffer) {
  const RowTiling& tiling = packed.tiling;
  if (tiling.rows == 1) {
    packed.data = product.x_at(packed.top, packed.begin);
  } else {
#pragma omp for schedule(static)
    for (std::int64_t i = 0; i < packed.blocks() * tiling.count; ++i) {
      const std::int64_t block = i / tiling.count;
      const std::int64_t tile = i % tiling.count;
      pack_rows(buffer + packed.offset(block, tile),
                product.x_at(packed.top + tiling.begin(tile), packed.begin + block * k_block),
                product.x_stride, tiling.height(tile), packed.block_size(block));
    }
  }
  const std::int64_t panels = product.w.data->size(0);
  const std::int64_t groups =
      std::clamp<std::int64_t>(4 * omp_get_num_threads() / panels, 1, tiling.count);
#pragma omp for schedule(static)
  for (std::int64_t item = 0; item < panels * groups; ++item) {
    const std::int64_t group = item % groups;
    run_item<Raw>(product, packed, item / groups, group * tiling.count / groups,
                  (group + 1) * tiling.count / groups);
  }
}

template <typename Raw>
void run(const Product& product) {
  const std::int64_t m = product.rows;
  const std::int64_t k = product.w.k;
  const std::int64_t block_rows = std::min(m, row_block);
  const std::int64_t k_step =
      std::max(packed_floats / block_rows / k_block, std::int64_t{1}) * k_block;
  thread_local std::vector<float> packed;
  packed.resize(static_cast<std::size_t>(block_rows * std::min(k, k_step)));
  float* buffer = packed.data();
  const std::int64_t panels = product.w.data->size(0);
  // 128 multiply-adds a nanosecond; to read the weights takes what eight rows take.
  const std::int64_t nanoseconds = panels * width * k * (m + 8) / 128;
#pragma omp parallel if (worth_a_team(m * panels, nanoseconds))
  for (std::int64_t top = 0; top < m; top += row_block) {
    const RowTiling tiling(std::min(row_block, m - top), product.tiles.max_rows);
    for (std::int64_t begin = 0; begin < k; begin += k_step) {
      run_step<Raw>(product, {buffer, tiling, top, begin, std::min(k, begin + k_step)}, buffer);
    }
  }
}

}  // namespace

void linear(const TensorView& out, const LinearInput& x, const LinearWeight& w,
            const TensorView& bias, bool accumulate, Stream) {
  thread_local std::vector<float> widened;
  if (x.is_quantized()) {
    widened.resize(static_cast<std::size_t>(x.values.numel()));
    dequantize(x, widened.data());
  }
  const Product product{out.as<float>(),
                        out.stride(0),
                        x.is_quantized() ? widened.data() : x.values.as<float>(),
                        x.is_quantized() ? x.size(1) : x.values.stride(0),
                        x.size(0),
                        w,
                        bias.data() != nullptr ? bias.as<float>() : nullptr,
                        accumulate,
                        active_linear_tiles()};
  if (w.dtype() == DType::f32) {
    run<float>(product);
  } else if (w.dtype() == DType::fp8_e4m3) {
    run<std::uint8_t>(product);
  } else {
    run<std::uint16_t>(product);
  }
}

}  // namespace millrace::cpu
