// A tile of decode attention, 16 keys and their values, in shared memory: how it lies there and how
// it becomes the first factor of the products.
//
// Keys, and dimensions of values, are the 16 rows of a product and query heads its 8 columns, so
// that a group of up to 8 heads needs one product where heads as rows would need two. 16-byte units
// are placed so that eight rows fall into different banks. fp8 is widened on the way into
// registers; then the 16 dimensions of a step are permuted: of keys the pair at 2c is dimensions
// 4c, 4c + 1 and the pair at 2c + 8 is 4c + 2, 4c + 3; of values row g is dimension 2g and row g +
// 8 is 2g + 1.
#pragma once

#include "kernels/attention_decode_split.cuh"
#include "kernels/base/cuda_mma.cuh"

namespace millrace::cuda::decode {

// Rows of Kv as lanes copy them (`boxed` = false): one after the other, padded to an odd number of
// units. As the tensor copy engine writes them (`boxed`): columns of 128 bytes, or 64 where a row
// has no more, units swizzled by the row.
template <typename Kv, int head_dim, bool is_boxed>
struct TileRows {
  static constexpr bool boxed = is_boxed;
  static constexpr bool is_fp8 = std::is_same_v<Kv, Fp8>;
  static constexpr int row_bytes = head_dim * static_cast<int>(sizeof(Kv));
  static constexpr int units = row_bytes / 16;
  static constexpr int column_bytes = !boxed ? (units | 1) * 16 : row_bytes < 128 ? row_bytes : 128;
  static constexpr int columns = boxed ? row_bytes / column_bytes : 1;
  static constexpr int bytes = tile_keys * columns * column_bytes;  // keys, or values
  static constexpr int tile_bytes = 2 * bytes;                      // keys, then values
  static_assert(!boxed || (columns * column_bytes == row_bytes && row_bytes % 64 == 0));

  // Where a unit of a key's row lies; `unit` is of the row's first column.
  static __device__ __forceinline__ std::uint32_t place(int key, int unit) {
    const int swizzle = !boxed ? 0 : column_bytes == 128 ? key % 8 : key / 2 % 4;
    return static_cast<std::uint32_t>(key * column_bytes + (unit ^ swizzle) * 16);
  }

  // Of a lane's place, the one `unit` units on; even, so that the swizzle's bits stay apart.
  static __device__ __forceinline__ std::uint32_t on(std::uint32_t place, int unit) {
    if constexpr (!boxed) return place + static_cast<std::uint32_t>(unit * 16);
    const int column = unit * 16 / column_bytes;
    return (place ^ static_cast<std::uint32_t>(unit * 16 % column_bytes)) +
           static_cast<std::uint32_t>(column * tile_keys * column_bytes);
  }

  // Of the 16 dimensions of a step, which the pair at 2c (second = false) or 2c + 8 of a key is.
  static __device__ __forceinline__ int query_offset(int c, bool second) {
    return is_fp8 ? 4 * c + (second ? 2 : 0) : 2 * c + (second ? 8 : 0);
  }

  // A lane's places in tiles, for for_keys() and for_values().
  static __device__ __forceinline__ std::uint32_t key_place(int lane) {
    return place(lane % 16, lane / 16);
  }
  static __device__ __forceinline__ std::uint32_t value_place(int lane) {
    return place(lane / 16 * 8 + lane % 8, lane / 8 % 2);
  }
};

// Two fp8 pairs of a register as two registers of halves; without a shift for the upper pair.
__device__ __forceinline__ void widen(std::uint32_t four, std::uint32_t& low, std::uint32_t& high) {
#if __CUDA_ARCH__ >= 890
  asm("{\n.reg .b16 lower, upper;\n"
      "mov.b32 {lower, upper}, %2;\n"
      "cvt.rn.f16x2.e4m3x2 %0, lower;\n"
      "cvt.rn.f16x2.e4m3x2 %1, upper;\n}\n"
      : "=r"(low), "=r"(high)
      : "r"(four));
#else
  low = fp8_to_half2(four);
  high = fp8_to_half2(four >> 16);
#endif
}

// Calls body(step, a) for each step of 16 dimensions: a is [keys, dimensions].
template <typename Rows, typename Body>
__device__ __forceinline__ void for_keys(std::uint32_t lane_place, Body&& body) {
  std::uint32_t a[4];
#pragma unroll
  for (int unit = 0; unit < Rows::units; unit += 2) {
    std::uint32_t raw[4];
    if (unit + 1 < Rows::units) {
      load_matrices(raw, Rows::on(lane_place, unit));
    } else {
      std::uint32_t two[2];
      load_matrices(two, Rows::on(lane_place, unit));
      raw[0] = two[0];
      raw[1] = two[1];
    }
    if constexpr (Rows::is_fp8) {
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        if (unit + u >= Rows::units) break;
        widen(raw[2 * u], a[0], a[2]);
        widen(raw[2 * u + 1], a[1], a[3]);
        body(unit + u, a);
      }
    } else {
      body(unit / 2, raw);
    }
  }
}

// Calls body(step, a) for each step of 16 dimensions: a is [dimensions, keys].
template <typename Rows, typename Body>
__device__ __forceinline__ void for_values(std::uint32_t lane_place, Body&& body) {
  std::uint32_t a[4];
#pragma unroll
  for (int unit = 0; unit < Rows::units; unit += 2) {
    std::uint32_t raw[4];
    if (unit + 1 < Rows::units) {
      load_matrices_transposed(raw, Rows::on(lane_place, unit));
    } else {
      // Lanes 8 to 15 would point behind the row; the second eight keys are theirs here.
      const int lane = static_cast<int>(threadIdx.x) % warp_size;
      std::uint32_t two[2];
      load_matrices_transposed(two,
                               lane_place + Rows::place(lane % 16, unit) - Rows::value_place(lane));
      raw[0] = two[0];
      raw[2] = two[1];
    }
    if constexpr (Rows::is_fp8) {
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        if (unit + u >= Rows::units) break;
        // Two dimensions of an even key, then of the odd one: pairs of keys are wanted.
        widen(__byte_perm(raw[u], 0, 0x3120), a[0], a[1]);
        widen(__byte_perm(raw[2 + u], 0, 0x3120), a[2], a[3]);
        body(unit + u, a);
      }
    } else {
      body(unit / 2, raw);
    }
  }
}

}  // namespace millrace::cuda::decode
